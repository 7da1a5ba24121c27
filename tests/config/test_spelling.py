"""Durations, sizes and addresses as people write them."""

import tomllib
from collections.abc import Callable
from typing import Annotated, Any, Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import Meta

from oo_config.spelling import Bytes, FilePath, Host, Seconds, Url, is_loopback, spelling, toml


@pytest.mark.parametrize(
    ("written", "seconds"),
    [(1, 1.0), (0.25, 0.25), ("1", 1.0), ("500 ms", 0.5), ("10min", 600.0), ("1.5 h", 5400.0), ("366 d", 31_622_400.0)],
)
def test_durations_are_seconds_unless_a_unit_is_given(written: object, seconds: float) -> None:
    """A number is seconds, a text may have a unit."""
    assert spelling(Seconds).read(written) == seconds


@pytest.mark.parametrize(
    ("written", "size"), [(1, 1), ("7", 7), ("1 kB", 1000), ("1KiB", 1024), ("1.5 MiB", 1_572_864), ("1 GB", 10**9), (5.0, 5)]
)
def test_sizes_are_bytes_unless_a_unit_is_given(written: object, size: int) -> None:
    """A number is bytes, a text may have a unit, decimal or binary."""
    assert spelling(Bytes).read(written) == size


@pytest.mark.parametrize("kind", [Seconds, Bytes])
@pytest.mark.parametrize(
    "written",
    [True, 0, -1, 10**400, 1e300, float("nan"), float("inf"), "", "s", "5 m", "5 mb", "1,5 s", "-1 s", "٥", None, [], {}, "1 s\n5"],
)
def test_what_is_no_measure_is_refused(kind: Any, written: object) -> None:
    """Neither nothing nor too much nor an unknown unit is guessed at."""
    with pytest.raises(ValueError):
        spelling(kind).read(written)


@pytest.mark.parametrize(("kind", "written"), [(Seconds, "367 d"), (Seconds, "0.9 ms"), (Bytes, "1025 GiB"), (Bytes, "1.0001 kB")])
def test_measures_have_bounds(kind: Any, written: str) -> None:
    """A duration fits a calendar, a size a disk, and there are no parts of a byte."""
    with pytest.raises(ValueError):
        spelling(kind).read(written)


def test_any_text_can_be_written_as_toml() -> None:
    """Control characters are escaped, and bytes that are no text are replaced, since TOML cannot hold them."""
    assert tomllib.loads("x = " + toml("a\x7f\x1b")) == {"x": "a\x7f\x1b"}
    assert toml(["\udcff"]) == '["?"]'


@given(st.integers(1, 366 * 86_400_000))
@example(75_000)
def test_a_duration_is_read_as_it_was_written(milliseconds: int) -> None:
    """Writing a duration and reading it gives the same number of seconds."""
    seconds = milliseconds / 1000
    assert spelling(Seconds).read(spelling(Seconds).write(seconds)) == seconds


@given(st.integers(1, 2**40))
@example(2**20)
def test_a_size_is_read_as_it_was_written(size: int) -> None:
    """Writing a size and reading it gives the same number of bytes."""
    assert spelling(Bytes).read(spelling(Bytes).write(size)) == size


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        (Seconds, 75.0, "75 s"),
        (Seconds, 600.0, "10 min"),
        (Seconds, 0.2, "200 ms"),
        (Bytes, 2**20, "1 MiB"),
        (Bytes, 1000, "1 kB"),
        (Bytes, 1023, "1023 B"),
    ],
)
def test_measures_are_written_in_the_largest_whole_unit(kind: Any, value: float, text: str) -> None:
    """People read 10 min, not 600."""
    assert spelling(kind).write(value) == text


@pytest.mark.parametrize(
    ("kind", "written"),
    [
        (Host, ""),
        (Host, "a b"),
        (Host, "1.2.3"),
        (Host, "http://a"),
        (Host, 1),
        (Url, "oo.example"),
        (Url, "ftp://oo.example"),
        (Url, "https://"),
        (Url, "https://oo.example/path"),
        (Url, "https://oo.example?"),
        (Url, "https://oo.example/#"),
        (Url, "https://ada@oo.example"),
        (Url, "https://oo.example:65536"),
        (Url, "https://oo.example:"),
        (Url, "https://[::1"),
        (Url, "https://[1:2]"),
        (Url, "https://300.1.1.1"),
        (Url, "https://oo.example\n"),
        (Url, "https://oo example"),
        (FilePath, ""),
        (FilePath, "a"),
        (FilePath, "~ada/x"),
        (FilePath, "/a\0b"),
        (FilePath, "/"),
    ],
)
def test_what_is_no_address_or_path_is_refused(kind: Any, written: object) -> None:
    """An address has no more than it needs, and a path does not depend on the working folder."""
    with pytest.raises(ValueError):
        spelling(kind).read(written)


@pytest.mark.parametrize(
    ("url", "stays"),
    [
        ("http://127.0.0.1:8710", True),
        ("http://127.9.9.9", True),
        ("http://[::1]:1", True),
        ("http://localhost", True),
        ("http://a.localhost:1", True),
        ("http://notlocalhost", False),
        ("http://localhost.example", False),
        ("http://127.0.0.1.example", False),
        ("http://0.0.0.0", False),
        ("http://[::]:8710", False),
        ("http://[fe80::1%eth0]:8710", False),
    ],
)
def test_loopback_is_told_from_the_world(url: str, stays: bool) -> None:
    """Only loopback addresses and localhost with the names under it stay on this machine."""
    assert is_loopback(url) is stays


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (bool, "true or false"),
        (Literal["b", "a"], "one of b, a"),
        (Annotated[int, Meta(ge=1, le=2)], "a whole number from 1 to 2"),
        (tuple[Annotated[int, Meta(ge=1, le=2)], ...], "a list, each item a whole number from 1 to 2"),
    ],
)
def test_plain_types_have_words(kind: Any, words: str) -> None:
    """What msgspec checks is said in words that follow "This must be"."""
    assert spelling(kind).words == words


@pytest.mark.parametrize("kind", [int, str, float])
def test_a_type_without_words_cannot_be_declared(kind: Any) -> None:
    """A setting whose limits nobody can be told is refused when it is declared, not when it is wrong."""
    with pytest.raises(TypeError, match="has no words"):
        spelling(kind)


@pytest.mark.parametrize(
    ("read", "refused"), [(spelling(bool, text=True).read, "yes?"), (spelling(tuple[Literal["a"], ...], text=True).read, "a,b")]
)
def test_text_is_read_as_strictly_as_toml(read: Callable[[str], object], refused: str) -> None:
    """In variables only the form is looser, not what is allowed."""
    with pytest.raises(ValueError):
        read(refused)
