"""Counters, traces, and the context that log lines carry."""
