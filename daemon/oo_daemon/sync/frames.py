"""What the reader of a file says to the daemon, over a pipe: frames, each after its length."""

from __future__ import annotations

from typing import Any, BinaryIO, Final, Literal, TypeAlias

import msgspec

from oo_daemon.store.values import Connection, Day, Draft

#: Things in one frame, and with that in one transaction.
MOST: Final = 500
#: Bytes that may lie in the pipe.
PIPE: Final = 1024 * 1024


class Order(msgspec.Struct, array_like=True):
    """What the daemon says, once: which file to read, for whom and from where."""

    connection: Connection
    path: str
    name: str
    since: dict[str, Any] | None
    observed_at: int
    enabled: list[str]  #: strangers' distributions whose plugins are loaded
    settings: dict[str, Any]  #: the connector's own


class Things(msgspec.Struct, array_like=True, tag="things"):
    """Some of what is in the file, in its order."""

    days: list[Day]  #: what merely occurred
    drafts: list[Draft]  #: everything else
    months: dict[str, dict[str, int]]  #: type → month → how many of these


class Place(msgspec.Struct, array_like=True, tag="place"):
    """A checkpoint. `cursor` is None at the end of the file."""

    cursor: dict[str, Any] | None
    done: int  #: bytes of the file


class Wrong(msgspec.Struct, array_like=True, tag="wrong"):
    """It cannot go on, and trying again would end the same."""

    whose: Literal["file", "connector"]
    reason: str


class Asks(msgspec.Struct, array_like=True, tag="asks"):
    """Which keys are known of a type, from a day on: what is known need not be made into bytes. Goes on only with the answer."""

    of: str
    day: int


class Known(msgspec.Struct, array_like=True):
    """The answer. Days without keys are not in it."""

    keys: dict[int, bytes]
    until: int | None  #: of days from this on it says nothing


Frame: TypeAlias = Things | Place | Wrong | Asks

_encoder: Final = msgspec.msgpack.Encoder()
_frames: Final[msgspec.msgpack.Decoder[Frame]] = msgspec.msgpack.Decoder(Frame)
_orders: Final = msgspec.msgpack.Decoder(Order)
_answers: Final = msgspec.msgpack.Decoder(Known)


def encode(message: Order | Known | Frame) -> bytes:
    """A message, after its length."""
    body = _encoder.encode(message)
    return len(body).to_bytes(4) + body


def decode(body: bytes) -> Frame:
    """A frame without its length."""
    return _frames.decode(body)


def read_order(stream: BinaryIO) -> Order:
    """The order, from a pipe. Raises `BrokenPipeError` where the daemon is gone."""
    return _orders.decode(_read(stream))


def read_known(stream: BinaryIO) -> Known:
    """An answer, from a pipe. Raises `BrokenPipeError` where the daemon is gone."""
    return _answers.decode(_read(stream))


def _read(stream: BinaryIO) -> bytes:
    length = stream.read(4)
    body = stream.read(int.from_bytes(length)) if len(length) == 4 else b""
    if not body:
        raise BrokenPipeError
    return body
