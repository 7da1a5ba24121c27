"""Grants are packed for the seal and unpacked after it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oo_vault import FormatUnknown, Grant, Secret

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
GRANTS = st.builds(
    Grant,
    access_token=st.builds(Secret, TEXT),
    refresh_token=st.none() | st.builds(Secret, TEXT),
    token_type=TEXT,
    scopes=st.lists(TEXT, max_size=4).map(tuple),
    expires_at=st.none() | st.integers(0, 2**60),
    obtained_at=st.integers(0, 2**60),
    extra=st.dictionaries(TEXT, TEXT, max_size=3),
    token_version=st.integers(0, 100),
)


@given(GRANTS)
def test_round_trip(grant: Grant) -> None:
    """What is packed is unpacked, with the version of the row it came from."""
    assert Grant.unpack(grant.pack(), token_version=grant.token_version) == grant


@pytest.mark.parametrize("packed", [b"", b"\x02{}", b"\x01", b"\x01{}", b'\x01{"access_token":"canary', b'\x01{"access_token":"\xff"}'])
def test_unknown_formats(packed: bytes) -> None:
    """Another format byte, or what is not a grant, is refused without being quoted."""
    with pytest.raises(FormatUnknown) as refused:
        Grant.unpack(packed)
    assert "canary" not in str(refused.value)
    assert refused.value.__cause__ is None
