"""From bytes to records, at any size in constant memory.

Nearly all of an export is records whose attributes stand in one order: those are read by one regular expression, three times as fast as
any parser. It takes nothing that it is not sure of. Whatever it does not recognise, expat reads, one element at a time; both give the
same.

Real exports break the rules of XML: the DTD of some is not well-formed, so it is cut off before anything is parsed (which also leaves no
entity that could expand); bytes that XML forbids are dropped; an attribute that comes twice is put right.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import IO, Final, NoReturn, TypeAlias
from xml.parsers import expat

from oo_apple_health.archive import AGAIN, BROKEN, HEAD, MAIN_LIMIT
from oo_sdk import Unreadable

CHUNK: Final = 1024 * 1024
#: Largest single element (bytes): a workout of a day with all its events has some 100 kB.
LARGEST: Final = 16 * 1024 * 1024
#: Deepest nesting of an element.
DEEPEST: Final = 32

FORBIDDEN: Final = bytes([*range(9), 0x0B, 0x0C, *range(0x0E, 0x20)])
#: White space in a value is a space, as XML has it.
_SPACES: Final = bytes.maketrans(b"\t\r\n", b"   ")
_V: Final = rb'"([^"]*+)"'
_S: Final = rb"[ \t\r\n]*+"
_ENTRY: Final = rb"<MetadataEntry key=" + _V + rb" value=" + _V + rb"/>"


def _open(pattern: bytes) -> bytes:
    """The pattern without its groups."""
    return pattern.replace(b"(", b"(?:")


#: The whole, what it says of itself before its dates (`HEAD_OF`), start, end, value, metadata. What stands between two quotes is taken as
#: it comes, three times as fast as by looking at each byte of it: `text` does that, where it is used.
RECORD: Final = re.compile(
    rb"".join([
        rb"(", _S, rb"<Record (type=", _open(_V), rb" sourceName=", _open(_V), rb"(?: sourceVersion=", _open(_V), rb")?",
        rb"(?: device=", _open(_V), rb")?(?: unit=", _open(_V), rb")?)(?: creationDate=", _open(_V), rb")?",
        rb" startDate=", _V, rb" endDate=", _V, rb"(?: value=", _V, rb")?",
        rb"(?:/>|>((?:", _S, _open(_ENTRY), rb")*+)", _S, rb"</Record>))",
    ])
)  # fmt: skip
#: Type, source, device, unit.
HEAD_OF: Final = re.compile(
    rb"".join([
        rb"type=", _V, rb" sourceName=", _V, rb"(?: sourceVersion=", _open(_V), rb")?(?: device=", _V, rb")?(?: unit=", _V, rb")?"
    ])
)  # fmt: skip
ENTRY: Final = re.compile(_ENTRY)
_END: Final = re.compile(_S + rb"</HealthData\s*>")
_ATTRIBUTE: Final = re.compile(rb"\s([^\s=<>/\"']+)\s*=\s*(\"[^\"]*\"|'[^']*')")

#: What `RECORD` finds; as bytes, escaped; empty where there is none.
Row: TypeAlias = tuple[bytes, bytes, bytes, bytes, bytes, bytes]


@dataclass(slots=True)
class Element:
    """An element that is no plain record, whole."""

    tag: str
    attributes: dict[str, str]
    children: list[Element] = field(default_factory=list)

    def get(self, name: str) -> str:
        """An attribute; empty where it has none."""
        return self.attributes.get(name, "")

    def all(self, tag: str) -> Iterator[Element]:
        """Its children of a kind."""
        return (child for child in self.children if child.tag == tag)


@lru_cache(maxsize=4096)
def text(raw: bytes) -> str:
    """An attribute's value, with its references resolved and without what XML forbids. Raises `Unreadable` where that makes no sense."""
    plain = raw.replace(b"\r\n", b"\n").translate(_SPACES, FORBIDDEN)
    if b"&" not in plain and b"<" not in plain:
        try:
            return plain.decode()
        except UnicodeDecodeError:
            raise Unreadable(f"The export holds a text that cannot be one: {AGAIN}. What came before is kept.") from None
    found: list[str] = []
    parser = expat.ParserCreate("utf-8")
    parser.StartElementHandler = lambda tag, attributes: found.append(attributes["v"])
    try:
        parser.Parse(b'<a v="' + plain + b'"/>', True)
    except expat.ExpatError as wrong:
        _refuse(wrong)
    return found[0]


class Records:
    """Reads the main file. `offset` is where the next element begins, in bytes of the unpacked file."""

    def __init__(self, stream: IO[bytes], offset: int = 0, *, fast: bool = True) -> None:
        self._stream = stream
        self._buffer = b""
        self._place = 0  #: in the buffer
        self._before = 0  #: bytes of the file before the buffer
        self._ended = False
        self._fast = fast
        self._mixed = False  #: in the buffer are records that the regular expression does not know, among those that it does
        self._start(offset)

    @property
    def offset(self) -> int:
        """Where the next element begins."""
        return self._before + self._place

    def read(self) -> Iterator[list[Row] | Element]:
        """Give runs of records, at most one for each megabyte, and other elements, in the order of the file."""
        while True:
            rows = self._rows() if self._fast else []
            if rows:
                yield rows
            end = _END.match(self._buffer, self._place)
            if end is not None:
                self._place = end.end()
                return
            if self._ended or len(self._buffer) - self._place >= CHUNK // 2:
                if self._ended and not self._buffer[self._place :].strip():
                    raise Unreadable(f"The export ends in the middle, as if it had been cut off: {AGAIN}. What came before is kept.")
                yield self._element()
            else:
                self._fill()

    def _start(self, offset: int) -> None:
        """Pass over all that comes before the first element, or before the offset."""
        if offset:
            while self._before + len(self._buffer) <= offset and not self._ended:
                self._before += len(self._buffer)
                self._buffer = self._more()
            self._place = offset - self._before
            return
        while b"<HealthData" not in self._buffer or b">" not in self._buffer[self._buffer.index(b"<HealthData") :]:
            if self._ended or len(self._buffer) > HEAD + CHUNK:
                raise Unreadable("This is no export of the Health app: hand in the export.zip that it makes, or the export.xml out of it.")
            self._buffer += self._more()
        # The DTD names the element, too, but only as <!ELEMENT HealthData.
        self._place = self._buffer.index(b">", self._buffer.index(b"<HealthData")) + 1

    def _more(self) -> bytes:
        try:
            some = self._stream.read(CHUNK)
        except BROKEN:
            raise Unreadable(f"The zip file is damaged in the middle: {AGAIN}. What came before is kept.") from None
        self._ended = not some
        if self._before + len(self._buffer) > MAIN_LIMIT:
            raise Unreadable(f"The export is larger than any can be: {AGAIN}.")
        return some

    def _fill(self) -> None:
        """Drop what was read, and get more. White space between elements does not pile up."""
        rest = self._buffer[self._place :]
        if not rest.strip(b" \t\r\n"):
            self._before += len(self._buffer)
            self._buffer, self._place, self._mixed = self._more(), 0, False
            return
        self._before += self._place
        self._buffer, self._place, self._mixed = rest + self._more(), 0, False

    def _rows(self) -> list[Row]:
        """Take records as long as the regular expression is sure of them."""
        buffer, place = self._buffer, self._place
        if RECORD.match(buffer, place) is None:
            return []
        if not self._mixed:
            # All at once, without a step of ours for each. Behind a gap it goes on, too: then what it found is not what comes next.
            rows: list[Row] = RECORD.findall(buffer, place)
            found = b"".join([row[0] for row in rows])
            if buffer.startswith(found, place):
                self._place = place + len(found)
                return rows
            self._mixed = True
        rows = []
        match, last = RECORD.scanner(buffer, place).match, None  # type: ignore[attr-defined]
        while (next_ := match()) is not None:
            rows.append(next_.groups(b""))
            last = next_
        if last is not None:
            self._place = last.end()
        return rows

    def _element(self) -> Element:
        """Read one element with expat, piece by piece up to each >, until it is closed."""
        pieces: list[bytes] = []
        parser, growing = _parser()
        size = 0
        while growing.done is None:
            piece = self._piece()
            size += len(piece)
            if size > LARGEST:
                raise Unreadable(f"The export holds a single entry of more than {LARGEST} bytes, which no export does: {AGAIN}.")
            pieces.append(piece)
            try:
                parser.Parse(piece, False)
            except expat.ExpatError as wrong:
                if wrong.code != expat.errors.codes[expat.errors.XML_ERROR_DUPLICATE_ATTRIBUTE]:
                    _refuse(wrong)
                pieces = [_repaired(piece) for piece in pieces]
                parser, growing = _parser()
                try:
                    for piece in pieces:
                        parser.Parse(piece, False)
                except expat.ExpatError as still:
                    _refuse(still)
        return growing.done

    def _piece(self) -> bytes:
        """The bytes up to and with the next >, without those that XML forbids."""
        while (end := self._buffer.find(b">", self._place) + 1) == 0:
            if self._ended:
                raise Unreadable(f"The export ends in the middle, as if it had been cut off: {AGAIN}. What came before is kept.")
            if len(self._buffer) - self._place > LARGEST:
                raise Unreadable(f"The export holds a single entry of more than {LARGEST} bytes, which no export does: {AGAIN}.")
            self._fill()
        piece = self._buffer[self._place : end]
        self._place = end
        return piece.translate(None, FORBIDDEN)


class _Growing:
    """The element that expat is telling."""

    def __init__(self) -> None:
        self.open: list[Element] = []
        self.done: Element | None = None

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if len(self.open) >= DEEPEST:
            raise Unreadable(f"The export is nested more deeply than any export is: {AGAIN}.")
        element = Element(tag, attributes)
        if self.open:
            self.open[-1].children.append(element)
        self.open.append(element)

    def end(self, tag: str) -> None:
        element = self.open.pop()
        if not self.open:
            self.done = element


def _parser() -> tuple[expat.XMLParserType, _Growing]:
    parser, growing = expat.ParserCreate("utf-8"), _Growing()
    parser.StartElementHandler = growing.start
    parser.EndElementHandler = growing.end
    return parser, growing


def _repaired(tag: bytes) -> bytes:
    """The tag with no attribute twice. A second startDate was meant to be the endDate; of others, the first counts."""
    seen: set[bytes] = set()

    def once(found: re.Match[bytes]) -> bytes:
        name, value = found[1], found[2]
        if name in seen and name == b"startDate" and b"endDate" not in seen:
            name = b"endDate"
        if name in seen:
            return b""
        seen.add(name)
        return b" " + name + b"=" + value

    return _ATTRIBUTE.sub(once, tag)


def _refuse(wrong: expat.ExpatError) -> NoReturn:
    raise Unreadable(f"The export is damaged ({expat.ErrorString(wrong.code)}): {AGAIN}. What came before is kept.") from None
