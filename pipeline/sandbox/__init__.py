"""Parses untrusted documents in a child process with limits, without network, and with two private folders to write to."""
