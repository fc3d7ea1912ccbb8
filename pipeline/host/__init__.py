"""What this host is and can do: its hardware, its container engine, the model that fits, and the `.env` that says so."""
