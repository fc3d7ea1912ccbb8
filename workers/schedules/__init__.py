"""What is done again and again by the clock."""
