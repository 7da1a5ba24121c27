"""A root key as text survives people, and typos do not pass."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oo_vault import KeyMistyped, key_text, parse_key

ROOT = bytes(range(32))
TEXT = key_text(ROOT)


def test_golden_text() -> None:
    """The text of a key is fixed: what somebody wrote down stays readable."""
    assert TEXT == "oo1-aaaqeaye-audaocaj-bifqydio-b4ibceqt-cqkrmfyy-denbwha5-dypxblrb"


@given(st.binary(min_size=32, max_size=32))
def test_round_trip(root: bytes) -> None:
    """Every key is read from its text, in either case, with other spaces and dashes."""
    text = key_text(root)
    assert parse_key(text) == root
    assert parse_key(f"  {text.upper().replace('-', ' ')}\n") == root
    assert parse_key(text.replace("-", "")) == root
    assert parse_key(text.replace("-", "–")) == root


def test_every_typo_of_one_character_is_found() -> None:
    """A wrong, missing, doubled or swapped character is never read as a key."""
    letters = TEXT.replace("-", "")
    chance = random.Random(1)
    typos = set()
    for place in range(len(letters)):
        typos |= {letters[:place] + other + letters[place + 1 :] for other in "abcdefghijklmnopqrstuvwxyz0123456789"}
        typos |= {letters[:place] + letters[place + 1 :], letters[:place] + letters[place] + letters[place:]}
        typos.add(letters[:place] + letters[place + 1 : place + 2] + letters[place] + letters[place + 2 :])
        typos.add("".join(chance.sample(letters, len(letters))))
    typos.discard(letters)
    for typo in typos:
        with pytest.raises(KeyMistyped):
            parse_key(typo)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "begins with oo1-"),
        ("canary", "begins with oo1-"),
        ("oo1-canary", "has 56 characters after oo1- and this has 6"),
        ("oo1-" + "1" * 56, "letters a to z and the digits 2 to 7"),
        ("oo1-" + "é" * 56, "letters a to z and the digits 2 to 7"),
        ("oo1-" + "canary22" * 7, "checksum"),
    ],
)
def test_the_error_says_what_is_wrong_and_quotes_nothing(text: str, sentence: str) -> None:
    """Each kind of typo has its sentence and the remedy, and none repeats the text."""
    with pytest.raises(KeyMistyped, match=sentence) as refused:
        parse_key(text)
    assert "Compare it with the recovery key" in str(refused.value)
    assert "canary" not in str(refused.value)
    assert refused.value.__cause__ is None
