"""Loads beside those of other frameworks."""
