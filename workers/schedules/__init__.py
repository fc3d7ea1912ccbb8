"""Actions that run at fixed times."""
