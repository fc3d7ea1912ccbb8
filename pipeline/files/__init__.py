"""Files shared by processes: locks, atomic replacement, and errors that say what to do."""
