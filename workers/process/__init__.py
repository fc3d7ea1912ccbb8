"""The worker processes of a host and their supervisor."""
