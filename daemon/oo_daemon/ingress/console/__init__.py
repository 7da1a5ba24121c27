"""The console: see it, understand it, act on it. Pages for operators, on the private doors only."""
