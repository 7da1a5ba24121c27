"""What a connector is tested with: the contract as a class of tests, and providers that live in memory.

It runs under pytest and needs nothing else, neither a network nor a daemon.
"""

from oo_sdk.testing.contract import ConnectorContract
from oo_sdk.testing.harness import Broken
from oo_sdk.testing.provider import Provider, Request, Routes, Tape, json_answer

__all__ = ["Broken", "ConnectorContract", "Provider", "Request", "Routes", "Tape", "json_answer"]
