"""What people and Prometheus are shown of work in progress."""
