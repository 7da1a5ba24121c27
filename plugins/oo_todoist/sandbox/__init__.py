"""A stand-in for Todoist, over real HTTP: for trying oO without an account and for testing connectors."""

from oo_todoist.sandbox.app import TodoistSandbox

__all__ = ["TodoistSandbox"]
