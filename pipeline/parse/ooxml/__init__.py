"""Office Open XML: Word, PowerPoint and Excel files, read from their parts."""
