"""What is measured and traced, and what the running code is about."""
