"""Acme, as a guest of oO."""
