"""The NATS sink: each event a message of a JetStream stream.

Everything that knows the library is in `server`, which is imported where a sink is opened: it is an extra.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import msgspec

from oo_nats.messages import message
from oo_sdk import NormalizedEvent, Outlet, RetryLater, Sink, Taken

if TYPE_CHECKING:
    from oo_nats.server import Server

_WORD: Final = r"[A-Za-z0-9_-]{1,64}"
#: Bytes that a key for users has at least, and at most.
SHORTEST, LONGEST = 16, 64


class Nats(Sink):
    """Publishes events, and says that they are taken once the stream has acknowledged them."""

    id = "nats"
    batch = 500

    class Settings(Sink.Settings):
        """Where to, as whom, and under which names."""

        subject_key_file: str  #: a file with 16 to 64 bytes that are kept secret: users stand in subjects as hashes under it
        servers: tuple[str, ...] = ("nats://127.0.0.1:4222",)  #: of one cluster; `tls://…` beyond this machine
        stream: str = "oo"
        prefix: str = "oo"  #: what subjects begin with
        create: bool = False  #: make the stream where there is none
        replicas: Annotated[int, msgspec.Meta(ge=1, le=5)] = 1  #: of a stream that is made
        keep_days: Annotated[float, msgspec.Meta(ge=0)] = 0  #: for which a stream that is made keeps an event; 0: as long as there is room
        credentials_file: str = ""  #: as `nsc` writes it
        login: str = ""
        password_file: str = ""
        token_file: str = ""
        ca_file: str = ""  #: who vouches for the server, where it is nobody whom this machine knows
        certificate_file: str = ""  #: ours, where the server wants one
        certificate_key_file: str = ""
        monitoring: str = ""  #: http address of the server's monitoring, which says whether it syncs each message

        def __post_init__(self) -> None:
            """Refuse what could not work."""
            if not self.servers or not all(each.startswith(("nats://", "tls://")) and "@" not in each for each in self.servers):
                raise ValueError("servers must each begin with nats:// or tls://, and hold no password: that is read from a file")
            if not re.fullmatch(_WORD, self.stream) or not re.fullmatch(rf"{_WORD}(\.{_WORD})*", self.prefix):
                raise ValueError("stream is a word of letters, digits, _ and -, and prefix such words with dots between them")
            if bool(self.login) != bool(self.password_file):
                raise ValueError("login and password_file go together")
            if bool(self.certificate_file) != bool(self.certificate_key_file):
                raise ValueError("certificate_file and certificate_key_file go together")
            if sum(map(bool, (self.login, self.credentials_file, self.token_file))) > 1:
                raise ValueError("write one of login, credentials_file and token_file")
            if self.monitoring and not self.monitoring.startswith(("http://", "https://")):
                raise ValueError("monitoring must begin with http:// or https://")

    settings: Settings
    _server: Server | None = None

    async def open(self, outlet: Outlet) -> None:
        """Connect, and look at the stream."""
        try:
            from oo_nats.server import connect  # here: an extra that only those have who use it
        except ImportError:
            raise RetryLater("nats-py is missing: pip install oo-integrations[nats]") from None
        key = (await secret(self.settings.subject_key_file, "subject_key_file")).encode()
        if not SHORTEST <= len(key) <= LONGEST:
            raise RetryLater(f"subject_key_file must hold {SHORTEST} to {LONGEST} bytes: openssl rand -hex 32 makes some")
        self._key = key
        self._server = await connect(self.settings)
        self.warnings = await self._server.warnings()

    async def deliver(self, events: Sequence[NormalizedEvent]) -> Taken:
        """Publish them."""
        assert self._server is not None
        return await self._server.publish([message(event, self.settings.prefix, self._key) for event in events])

    async def has(self, found_at: str) -> bool:
        """Look for the message."""
        assert self._server is not None
        return await self._server.has(found_at)

    async def close(self) -> None:
        """Disconnect."""
        if self._server is not None:
            await self._server.close()


async def secret(path: str, setting: str) -> str:
    """What a file holds. Raises `RetryLater`, which names the setting."""
    try:
        return (await asyncio.to_thread(Path(path).read_text, "utf-8")).strip()
    except (OSError, UnicodeDecodeError) as wrong:
        raise RetryLater(f"{setting} cannot be read ({type(wrong).__name__})") from None
