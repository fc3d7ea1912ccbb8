"""This host: its hardware, its container engine, the model that fits, and the `.env` file with the settings."""
