"""Files that several processes share: locks, replacement in one step, and their errors as a person can act on them."""
