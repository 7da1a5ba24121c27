"""Operating it: logs, measurements, health."""
