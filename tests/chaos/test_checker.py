"""The checker sees what is wrong, and nothing where all is well."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from chaos.checker import History, Told, wrong


def note(id_: str, title: str) -> Told:
    return Told(id=id_, type="fire.note", account="a", subject="n", title=title)


MESSAGE = Told(id="3", type="fire.message", account="a", subject="m", title="m")
ONE, TWO = note("1", "v1"), note("2", "v2")
WELL = History(
    acknowledged=frozenset({"m"}),
    feeds={"a": [("n", "v1"), ("n", "v2")]},
    stored=["m"],
    outbox=[ONE, TWO, MESSAGE],
    stream=[ONE, TWO, ONE, TWO, MESSAGE],
    rotations={"t": 1},
    shown={"t": 2},
    interruptions=1,
    calls=[0.1 * number for number in range(100)],
    rate=10.0,
)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"stored": []}, "acknowledged and not stored: m"),
        ({"outbox": [ONE, TWO], "stream": [ONE, TWO]}, "acknowledged and not told: m"),
        ({"outbox": [ONE, TWO, MESSAGE, replace(MESSAGE, id="4")]}, "told twice: m"),
        ({"stored": ["m", "m"]}, "stored twice: m"),
        ({"outbox": [ONE, TWO, MESSAGE, ONE]}, "an event id twice: 1"),
        (
            {"outbox": [TWO, ONE, MESSAGE]},
            "in the outbox a n is not what it was: 2 of 2, and from the 1th on ['v2', 'v1'] for ['v1', 'v2']",
        ),
        ({"stream": [TWO, ONE, MESSAGE]}, "in the stream a n is not what it was"),
        ({"stream": [ONE, MESSAGE]}, "not in the stream: 2"),
        ({"stream": [ONE, TWO, MESSAGE, replace(MESSAGE, id="5")]}, "only in the stream: 5"),
        ({"rotations": {"t": 2}}, "a refresh token was exchanged 2 times"),
        ({"shown": {"t": 3}}, "refresh tokens were shown again 2 times, with 1 interruptions"),
        ({"calls": [0.01 * number for number in range(100)]}, "the provider was called"),
    ],
)
def test_what_is_wrong_is_said(changed: dict[str, Any], says: str) -> None:
    """Each kind of fault alone."""
    assert any(says in each for each in wrong(replace(WELL, **changed)))


def test_nothing_is_wrong() -> None:
    """The same may stand twice in the stream; calls keep to their rate."""
    assert wrong(WELL) == []
