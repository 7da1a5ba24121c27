"""The secrets that this process works with, to be found in any text, however they are spelled there."""

from __future__ import annotations

import base64
import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Iterator
from urllib.parse import quote, quote_plus

import msgspec

#: Shorter ones are left to the patterns: blotting them out would blot out words.
SHORTEST = 8
#: So many are known, the latest: what was met long ago has run out.
MOST = 2000


class Live:
    """Knows the latest secrets by their spellings. `add` costs next to nothing; the work is done when a text is looked through."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._new: deque[str] = deque(maxlen=MOST)
        self._spelled: OrderedDict[str, tuple[str, ...]] = OrderedDict()
        self._by_head: dict[str, Counter[str]] = {}

    def add(self, secret: str) -> None:
        """Know one more. From any thread."""
        if len(secret) >= SHORTEST:
            self._new.append(secret)

    def blot(self, text: str, becomes: str) -> str:
        """The text with every known secret replaced."""
        if len(text) < SHORTEST:
            return text
        with self._lock:
            self._take()
            found = {
                spelling
                for start in range(len(text) - SHORTEST + 1)
                for spelling in self._by_head.get(text[start : start + SHORTEST], ())
                if text.startswith(spelling, start)
            }
        for spelling in sorted(found, key=len, reverse=True):
            text = text.replace(spelling, becomes)
        return text

    def _take(self) -> None:
        while self._new:
            secret = self._new.popleft()
            if secret in self._spelled:
                self._spelled.move_to_end(secret)
                continue
            self._spelled[secret] = tuple(dict.fromkeys(spellings(secret)))
            for spelling in self._spelled[secret]:
                self._by_head.setdefault(spelling[:SHORTEST], Counter())[spelling] += 1
            if len(self._spelled) > MOST:
                _, forgotten = self._spelled.popitem(last=False)
                for spelling in forgotten:
                    self._forget(spelling)

    def _forget(self, spelling: str) -> None:
        known = self._by_head[spelling[:SHORTEST]]
        known[spelling] -= 1
        if not known[spelling]:
            del known[spelling]
        if not known:
            del self._by_head[spelling[:SHORTEST]]


def spellings(secret: str) -> Iterator[str]:
    """A secret as it is, as it stands in an address, a form, JSON or Python, in hex, and in base64 wherever it begins there."""
    plain = secret.encode("utf-8", "surrogatepass")
    yield from (secret, quote(plain, safe=""), quote(plain), quote_plus(plain), plain.hex(), plain.hex().upper())
    yield from (msgspec.json.encode(secret.encode(errors="replace").decode()).decode()[1:-1], repr(secret)[1:-1])
    for before in range(3):
        # What its neighbours have a part in is cut off at both ends.
        first, last = -(-before * 8 // 6), (before + len(plain)) * 8 // 6
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            if len(part := encode(bytes(before) + plain).decode()[first:last]) >= SHORTEST:
                yield part
