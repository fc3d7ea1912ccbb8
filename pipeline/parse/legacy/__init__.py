"""Office files from before 2007: sheets read from their records, texts and slides converted by LibreOffice."""
