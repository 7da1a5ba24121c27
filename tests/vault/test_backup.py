"""A backup as a file: whole and unchanged, or refused."""

from __future__ import annotations

import io

import pytest

from oo_vault import PART, Keyring, KeyUnknown, Tampered, read_backup, write_backup

RING = Keyring([bytes(range(32))])
PARTS = [bytes([number]) * size for number, size in ((1, PART), (2, PART), (3, 17))]


def made(parts: list[bytes] = PARTS, ring: Keyring = RING) -> bytes:
    file = io.BytesIO()
    write_backup(ring.newest, parts, file)
    return file.getvalue()


def opened(text: bytes, ring: Keyring = RING) -> bytes:
    return b"".join(read_backup(ring, io.BytesIO(text)))


@pytest.mark.parametrize("parts", [PARTS, PARTS[:1], [b"x"], []])
def test_what_goes_in_comes_out(parts: list[bytes]) -> None:
    """Of any length, also of none."""
    assert opened(made(parts)) == b"".join(parts)


def test_nothing_of_it_can_be_read() -> None:
    """The file shows nothing of what is in it."""
    assert b"canary" not in made([b"canary" * 100])


@pytest.mark.rows("B16")
def test_every_change_is_noticed() -> None:
    """A flipped bit anywhere, a cut anywhere, blocks that were left out, doubled or swapped."""
    whole = made([b"abc", b"defg", b"h"])
    start = len(b"oO backup 1\n") + 8 + 24
    blocks, rest = [], whole[start:]
    while rest:
        size = 4 + int.from_bytes(rest[:4], "big")
        blocks.append(rest[:size])
        rest = rest[size:]
    assert len(blocks) == 3
    head = whole[:start]
    changed = [whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :] for place in range(len(whole))]
    cut = [whole[:place] for place in range(len(whole))]
    shuffled = [[*blocks[:2]], [blocks[0], blocks[0], *blocks[1:]], [blocks[1], blocks[0], blocks[2]], [*blocks, blocks[2]], blocks[1:]]
    for text in (*changed, *cut, *(head + b"".join(each) for each in shuffled)):
        with pytest.raises((Tampered, KeyUnknown)):
            opened(text)


def test_another_key() -> None:
    """A key that is not in the ring is named; an older one that is opens it."""
    older, newer = bytes(range(32)), bytes(range(1, 33))
    text = made(ring=Keyring([older]))
    assert opened(text, Keyring([newer, older])) == b"".join(PARTS)
    with pytest.raises(KeyUnknown, match="was made with key"):
        opened(text, Keyring([newer]))
