"""Syncs: when they run, what one run does, and what comes after it."""
