"""The doors in: HTTP listeners, and what is served through them."""
