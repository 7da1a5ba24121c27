"""The way out: events as bytes, and those who read them."""
