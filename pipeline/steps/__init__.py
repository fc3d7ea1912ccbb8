"""The steps of a document's way, each composed of stages and the ledger: load, parse, index, verify."""
