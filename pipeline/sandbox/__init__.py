"""Untrusted documents are parsed here: in a child process with limits, without network, with two private folders to write to."""
