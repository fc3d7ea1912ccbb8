"""OCR: pages and images without text are read by an engine that is installed beside kb-ingest."""
