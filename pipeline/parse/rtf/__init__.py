"""RTF by our own reader: words of control, groups and text in one pass, in bounded memory."""
