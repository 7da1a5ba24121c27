"""How a setting is spelled: said in words, read from a file or a variable, and written back.

Numbers, texts, choices and lists are msgspec's; what people write in their own way (durations, sizes, paths,
addresses) has its spelling beside its type here.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
from msgspec.inspect import BoolType, IntType, type_info

MIB, GIB = 2**20, 2**30


class Spelling(msgspec.Struct, frozen=True, kw_only=True):
    """One way of writing values."""

    words: str  #: completes the sentence "This must be …"
    read: Callable[[Any], Any]  #: from what TOML or a variable holds; ValueError when it is no such thing
    write: Callable[[Any], Any] = lambda value: value  #: into what TOML can hold


def spelling(kind: Any, *, text: bool = False) -> Spelling:
    """Return how values of a declared type are spelled; with `text` from a variable, where a list has commas."""
    notes = getattr(kind, "__metadata__", ())
    own = next((note for note in notes if isinstance(note, Spelling)), None)
    found = own or Spelling(words=_words(kind, notes), read=lambda raw: msgspec.convert(raw, kind, strict=not text))
    plain = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    if text and get_origin(plain) is tuple:
        return Spelling(words=found.words, read=lambda raw: found.read(_parts(raw)), write=found.write)
    return found


def _words(kind: Any, notes: tuple[Any, ...]) -> str:
    described = next((note.description for note in notes if isinstance(note, msgspec.Meta) and note.description), None)
    if described:
        return described
    if get_origin(kind) is Literal:
        return f"one of {', '.join(get_args(kind))}"
    if get_origin(kind) is tuple:
        return f"a list, each item {spelling(get_args(kind)[0]).words}"
    match type_info(kind):
        case IntType(ge=int(least), le=int(most)):
            return f"a whole number from {least} to {most}"
        case BoolType():
            return "true or false"
        case _:
            raise TypeError(f"{kind} has no words: bound it, describe it in its Meta, or give it a Spelling.")


def _parts(raw: str) -> list[str]:
    return [part for part in map(str.strip, raw.split(",")) if part]


def toml(value: Any) -> str:
    """Write a text, a number or a list of them as TOML."""
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    # A JSON string is a TOML basic string, but for DEL and for bytes that are not UTF-8.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f").encode(errors="replace").decode()


# Numbers with a unit. The units stand largest first, which is the order in which one is chosen for writing.

UNITS_OF_TIME = {"d": Decimal(86400), "h": Decimal(3600), "min": Decimal(60), "s": Decimal(1), "ms": Decimal("0.001")}
UNITS_OF_SIZE = {
    "GiB": Decimal(GIB),
    "GB": Decimal(10**9),
    "MiB": Decimal(MIB),
    "MB": Decimal(10**6),
    "KiB": Decimal(2**10),
    "kB": Decimal(10**3),
    "B": Decimal(1),
}


def _measured(raw: Any, units: Mapping[str, Decimal], base: str) -> Decimal:
    """Return a plain number, or a text of a number and a unit, in the base unit."""
    match = isinstance(raw, int | float | str) and re.fullmatch(r"([0-9]{1,18}(?:\.[0-9]{1,18})?) ?([A-Za-z]*)", str(raw))
    if not match or (match[2] or base) not in units:
        raise ValueError
    return Decimal(match[1]) * units[match[2] or base]


def _with_unit(value: float, units: Mapping[str, Decimal]) -> float | str:
    """Write a number in the largest unit of which it is a whole multiple."""
    exact = Decimal(str(value))
    return next((f"{int(exact / size)} {unit}" for unit, size in units.items() if exact % size == 0), value)


def _seconds(raw: Any) -> float:
    seconds = _measured(raw, UNITS_OF_TIME, "s")
    if not Decimal("0.001") <= seconds <= 366 * 86400:
        raise ValueError
    return float(seconds)


def _bytes(raw: Any) -> int:
    size = _measured(raw, UNITS_OF_SIZE, "B")
    if size % 1 or not 1 <= size <= 1024 * GIB:
        raise ValueError
    return int(size)


Seconds = Annotated[
    float,
    Spelling(
        words="a duration from 1 ms to 366 d",
        read=_seconds,
        write=lambda seconds: _with_unit(seconds, UNITS_OF_TIME),
    ),
]
Bytes = Annotated[
    int,
    Spelling(
        words="a size from 1 B to 1024 GiB",
        read=_bytes,
        write=lambda size: _with_unit(size, UNITS_OF_SIZE),
    ),
]


# Paths and addresses.

Network = IPv4Network | IPv6Network


def _path(raw: Any) -> Path:
    if not isinstance(raw, str) or not re.fullmatch(r"(/|~/)[^\x00-\x1f\x7f]+", raw):
        raise ValueError
    return Path(raw)


@dataclass(frozen=True, slots=True)
class Server:
    """A database on a server: its address, which may hold a password and so is only shown without it."""

    address: str = field(repr=False)

    def __str__(self) -> str:
        """The address without its password."""
        bare = re.sub(r"(://[^:@/?]*):.*@", r"\1:…@", self.address)
        return re.sub(r"([?&](?:ssl)?password=)[^&]*", r"\1…", bare)


def _database(raw: Any) -> Path | Server:
    if isinstance(raw, str) and re.match(r"[a-z]+://", raw):
        if not re.fullmatch(r"postgres(ql)?://[!-~]+", raw):
            raise ValueError
        return Server(raw)
    return _path(raw)


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _host(raw: Any) -> str:
    if not isinstance(raw, str) or not (_address(raw) or re.fullmatch(r"(?=.*[A-Za-z])[A-Za-z0-9.-]{1,253}", raw)):
        raise ValueError
    return raw.lower()


_URL = re.compile(r"(https?)://(?:\[([0-9a-f:.]+)\]|([a-z0-9.-]+))(?::([0-9]{1,5}))?/?", re.IGNORECASE)


def _url(raw: Any) -> str:
    match = _URL.fullmatch(raw) if isinstance(raw, str) else None
    if match is None or int(match[4] or 0) > 65535:
        raise ValueError
    _host(match[2] or match[3])
    return match[0].removesuffix("/").lower()


def is_loopback(url: str) -> bool:
    """Tell whether a URL as `Url` reads it stays on this machine."""
    match = _URL.fullmatch(url)
    host = (match[2] or match[3]) if match else ""
    address = _address(host)
    # RFC 6761: localhost and all names under it are the loopback addresses.
    return address.is_loopback if address else host == "localhost" or host.endswith(".localhost")


def _networks(raw: Any) -> tuple[Network, ...]:
    if not isinstance(raw, list) or not all(isinstance(item, str) for item in raw):
        raise ValueError
    return tuple(map(ip_network, raw))


FilePath = Annotated[Path, Spelling(words="a printable path that begins with / or ~/", read=_path, write=str)]
DatabasePlace = Annotated[
    Path | Server,
    Spelling(words="a printable path that begins with / or ~/, or an address postgresql://host/database", read=_database, write=str),
]
Host = Annotated[str, Spelling(words="an IP address or a host name", read=_host)]
Url = Annotated[str, Spelling(words="an https:// or http:// address with nothing after host and port", read=_url)]
Networks = Annotated[
    tuple[Network, ...],
    Spelling(
        words="a list, each item an IP address or a network such as 10.0.0.0/8",
        read=_networks,
        write=lambda networks: [str(network) for network in networks],
    ),
]
