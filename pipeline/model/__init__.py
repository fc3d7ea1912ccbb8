"""The model's files, its tokenizer, and the device it runs on."""
