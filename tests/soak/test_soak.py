"""The soak in small: that its load, its reader and its samples work, and that it would notice."""

from __future__ import annotations

import pytest
from soak import soak


@pytest.mark.rows("G7")
async def test_a_short_soak_loses_nothing(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A few seconds: every acknowledged delivery is read once, and the person's changes with them."""
    seen = soak.Soak(3)
    await soak.live(tmp_path_factory.mktemp("s"), seen, rate=40, every=0.25)
    assert seen.broken() == []
    assert len(seen.acknowledged) > 60
    assert seen.refused == 0
    assert all(sample.memory > 20 and sample.files > 5 for sample in seen.samples)


def test_what_is_not_kept_is_told() -> None:
    """Lost, doubled, leaking and growing each have a sentence, and a slope is a slope."""
    samples = [soak.Sample(second, 50 + second / 3600 * 7, 20 + int(second // 20), 200) for second in range(0, 100, 5)]
    seen = soak.Soak(100, samples=samples, acknowledged={"a", "b"}, read={"a"}, doubled=1)
    assert len(seen.broken()) == 4 + (seen.files > soak.MOST_FILES)
    assert seen.growth == pytest.approx(7)
