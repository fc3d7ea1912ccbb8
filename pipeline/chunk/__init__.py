"""Documents to chunks: packing by tokens, the units that are packed, and the files that chunks travel in."""
