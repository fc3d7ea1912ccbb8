"""Preparing and checking a deployment on this host."""
