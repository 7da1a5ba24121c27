"""Privacy: forgetting, and handing out what is kept."""
