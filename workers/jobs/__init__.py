"""What a command does from beginning to end: load, re-index, and the crew of workers it brings."""
