"""Frames: what the daemon and the reader of a file say to each other."""

from __future__ import annotations

from io import BytesIO

import pytest

from oo_daemon.sync.frames import Known, encode, read_known


def test_an_answer_comes_as_it_was_sent() -> None:
    """Whole, after its length; what follows it is left for later."""
    sent = Known({19_000: b"keys"}, 19_007)
    pipe = BytesIO(encode(sent) + encode(Known({}, None)))
    got = read_known(pipe)
    assert (got.keys, got.until) == (sent.keys, sent.until)
    assert read_known(pipe).until is None


@pytest.mark.parametrize("left", [b"", b"\0\0", b"\0\0\0\x09"])
def test_a_daemon_that_is_gone_is_noticed(left: bytes) -> None:
    """Where a pipe ends before an answer, its reader ends, too."""
    with pytest.raises(BrokenPipeError):
        read_known(BytesIO(left))
