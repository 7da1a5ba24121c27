"""What can go wrong between a caller and the daemon, named after what the caller does next."""

from __future__ import annotations


class ClientError(Exception):
    """What `Client` raises. `message` is one sentence, `remedy` says what to do; as text they are joined."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message, remedy)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        if not self.remedy:
            return self.message
        return f"{self.message}{'' if self.message.endswith('.') else ':'} {self.remedy}"


class DaemonNotRunning(ClientError):
    """Nobody answers on the socket: start the daemon, then ask again."""


class Refused(ClientError):
    """The daemon said no: ask for something else. `code` is its word for why."""

    def __init__(self, code: str, message: str, remedy: str, *, connect_url: str = "") -> None:
        super().__init__(message, remedy)
        self.code = code
        self.connect_url = connect_url  #: where the person can allow what is missing, with the code `missing_scope`


class TryLater(Refused):
    """The daemon cannot just now and did nothing: ask again, after `after` seconds where it says so."""

    def __init__(self, code: str, message: str, remedy: str, *, after: float | None = None) -> None:
        super().__init__(code, message, remedy)
        self.after = after


class Unexpected(ClientError):
    """The answer is not one of the daemon's own: look at what really runs there."""
