"""Documents to chunks: packing by tokens, the packed units, and the chunk files."""
