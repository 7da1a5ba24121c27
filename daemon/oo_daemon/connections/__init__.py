"""What a connection can do: sign in, keep its credential fresh, and call its provider."""
