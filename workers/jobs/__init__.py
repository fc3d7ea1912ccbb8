"""The work of a command from beginning to end: load, re-index, and the workers it starts."""
