"""OpenDocument: texts, presentations and spreadsheets, read from their XML."""
