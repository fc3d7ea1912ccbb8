"""Measurements by ratio: everything that is compared runs in one process or one after the other, several times over."""
