"""What the store can say went wrong, named after what the caller does next."""

from __future__ import annotations


class CannotStore(Exception):
    """The disk or the database refuses: nothing was stored. Our own fault: answer 503, try again later."""


class Corrupt(CannotStore):
    """The database file is damaged: stop, and restore a backup."""


class CannotOpen(Exception):
    """The database cannot be used at all: the start is refused. The message says what to do."""


class NewerSchema(CannotOpen):
    """A newer program has lived on this database: install that one again, or restore a backup from before."""


class AlreadyRunning(CannotOpen):
    """Another daemon has this database: stop it, or use another file."""


class LeaseLost(Exception):
    """Somebody else has taken over: whatever was being done must not go on."""


class Erased(LeaseLost):
    """What this belongs to was erased meanwhile: whatever was being done must not go on, and nothing is to be sent again."""
