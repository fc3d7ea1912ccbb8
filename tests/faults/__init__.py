"""Seeded fault injection: whatever happens, nothing is lost."""
