"""The worker processes of a host and what supervises them."""
