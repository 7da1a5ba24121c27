"""Errors, named after what happens next.

A connector raises one of these to say what the daemon shall do; the daemon never guesses that from a status code. The message
is for the operator: one sentence, without personal data and without anything secret.
"""

from __future__ import annotations

from datetime import datetime, timedelta


class ConnectorError(Exception):
    """What a connector can say went wrong. Only its sub-classes are raised."""


class SignInAgain(ConnectorError):
    """The grant is gone: the connection waits until its owner signs in again."""


class RetryLater(ConnectorError):
    """Nothing is wrong for long: try again after a while.

    `after` is how long the provider asks us to wait, or None where it does not say; never tried earlier than that.
    """

    def __init__(self, message: str = "the provider asks us to come back later", *, after: timedelta | None = None) -> None:
        super().__init__(message)
        self.after = after


class QuotaSpent(ConnectorError):
    """All that may be asked for now was asked: what was fetched is kept, and the sync goes on at `until`."""

    def __init__(self, message: str = "the provider's quota is used up", *, until: datetime) -> None:
        super().__init__(message)
        self.until = until


class CursorExpired(ConnectorError):
    """The provider no longer knows our cursor: the next sync starts without one."""


class ApiRetired(ConnectorError):
    """The provider has shut down what this connector calls: a newer connector is needed."""


class Unreadable(ConnectorError):
    """One item makes no sense. Yield it, do not raise it, to set the item aside and go on.

    `subject` is the item's id where it could be read: in a listing, the item then counts as shown.
    """

    def __init__(self, message: str, *, subject: str = "") -> None:
        super().__init__(message)
        self.subject = subject


class ActionRefused(ConnectorError):
    """The provider will not do this action: the caller is told, and it is not tried again."""


class ConnectorBug(ConnectorError):
    """The provider's answer is not what this connector was written for, or the connector itself is wrong."""
