"""What prepares and checks a deployment on this host."""
