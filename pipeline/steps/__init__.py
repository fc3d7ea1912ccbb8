"""The steps that process documents: load, parse, index, verify. Each combines stages with the ledger."""
