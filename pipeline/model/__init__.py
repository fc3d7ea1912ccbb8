"""The model's files, its tokenizer, and the device that it runs on."""
