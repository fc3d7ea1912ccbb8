"""The kb-ingest library: discover, stage, parse, chunk, embed and store documents; knows no queue and no command line."""
