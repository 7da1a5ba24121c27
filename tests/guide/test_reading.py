"""What the how-to about reading says works as it stands there."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from daemon.ingress.reading import Post, within

from oo_client import Event

TEXT = (Path(__file__).parents[2] / "docs" / "how-to" / "reading.md").read_text()
SOCKET = "/run/oo-integrations/oo.sock"
PATIENCE = 20.0


@pytest.fixture
async def post(tmp_path: Path) -> AsyncIterator[Post]:
    """Where events are fetched."""
    made = Post(tmp_path)
    await made.open()
    yield made
    await made.close()


async def test_reading_by_name(post: Post) -> None:
    """The program reads all that is there, goes on with what comes, and begins where it left off when it is started again."""
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert SOCKET in code
    names: dict[str, Any] = {}
    exec(compile(code.replace(SOCKET, str(post.socket)), "reading.md", "exec"), names)
    got, enough = list[str](), asyncio.Event()

    async def handle(event: Event) -> None:
        got.append(event.subject)
        if event.subject in {"n4", "n6"}:
            enough.set()

    names["handle"] = handle
    async with post.client() as client:
        await client.add_consumer("backend", start="present")
    await post.write(3)
    for more in (2, 2):
        reading = asyncio.create_task(names["main"]())
        await post.write(more)
        await within(PATIENCE, enough.wait())
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        enough.clear()
    assert list(dict.fromkeys(got)) == [f"n{number}" for number in range(7)]


async def test_reading_by_curl(post: Post) -> None:
    """Each question that is shown is answered with events in its form."""
    await post.write(3)
    asked = re.findall(r"curl --unix-socket \S+ (?:-N )?(?:-H 'Accept: (\S+)' )?'?http://oo([^'\s]+)", TEXT)
    assert len(asked) == 2
    forms = [*asked, *((form, "/v1/events") for form in re.findall(r"`(?:Accept: )?(application/\S+)`", TEXT))]
    assert len(forms) == 4
    async with aiohttp.ClientSession("http://oo", connector=aiohttp.UnixConnector(str(post.socket))) as session:
        for form, path in forms:
            async with session.get(path.replace("1-42", "1-1"), headers={"Accept": form} if form else {}) as answer:
                assert (answer.status, answer.content_type) == (200, form or "application/json")
                assert b"n2" in await within(PATIENCE, answer.content.readany())
