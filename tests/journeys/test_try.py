"""`oo try` beside a running daemon: as one of its connections, from where the last try left off, and without writing anything."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from journeys.house import House

from oo_daemon.cli import oo

MINE = """
from oo_sdk import hookimpl
from oo_todoist import Todoist

@hookimpl
def oo_connectors():
    return [Todoist()]
"""
#: One that would change something while it syncs.
BUSY = MINE.replace("return [Todoist()]", "return [Busy()]").replace(
    "@hookimpl",
    """
class Busy(Todoist):
    async def fetch_signals(self, ctx, since):
        await ctx.http.request("DELETE", f"{self.settings.api}/tasks/1", accept=(404,))
        yield

@hookimpl""",
)


async def tried(house: House, file: Path, *more: str) -> Result:
    def run() -> Result:
        command = ["--config", str(house.folder / "oo.toml"), "try", str(file), "--json", *more]
        return CliRunner().invoke(oo, command, prog_name="oo")

    return await asyncio.to_thread(run)


def lines(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


async def seen(house: House, connection: str) -> tuple[object, ...]:
    """What the daemon has, what the provider has, and which files there are."""
    async with house.client as client:
        known, runs = await client.connection(connection), await client.runs(connection=connection)
    accounts = {id_: account.position for id_, account in house.sandbox.world.accounts.items()}
    return known, runs, await house.events(), accounts, house.tasks(), sorted(path.name for path in house.folder.glob("mine*"))


@pytest.mark.parametrize("dry", [True, False])
async def test_as_a_connection_of_the_daemon(house: House, dry: bool) -> None:
    """It sees what the person has without a token of its own; a dry run leaves everything as it was, another only where it left off."""
    connection = await house.connect()
    assert connection is not None
    async with house.client as client:
        assert (await client.sync(connection.id, wait=20)).outcome == "done"
    file = house.folder / "mine.py"
    file.write_text(MINE)
    before = await seen(house, connection.id)
    told = lines(await tried(house, file, "--user", "ada", *(["--dry-run"] if dry else [])))
    assert set(house.tasks()) <= {each.get("subject") for each in told}
    assert told[-1]["type"] == "checkpoint"
    again = lines(await tried(house, file, "--user", "ada", "--dry-run"))
    after = await seen(house, connection.id)
    assert after[:-1] == before[:-1], "nothing but a file was written"
    if dry:
        assert after == before
        assert len(again) == len(told)
    else:
        assert after[-1] == ["mine.py", "mine.py.ada.cursor"]
        assert json.loads((house.folder / "mine.py.ada.cursor").read_text()) == told[-1]["cursor"]
        assert len(again) < len(told)


async def test_what_is_refused(house: House) -> None:
    """Whoever has no connection is told how to get one; a dry run sends nothing that changes something, and writes no tape."""
    file = house.folder / "mine.py"
    file.write_text(MINE)
    assert "oo connect todoist --user grace" in (await tried(house, file, "--user", "grace")).output
    assert "no name" in (await tried(house, file, "--user", "../grace")).output
    assert "writes no tape" in (await tried(house, file, "--user", "ada", "--dry-run", "--record", str(house.folder / "tape"))).output
    await house.connect()
    file.write_text(BUSY)
    asked = house.sandbox.requests["DELETE /api/v1/tasks/{task_id}"]
    refused = await tried(house, file, "--user", "ada", "--dry-run")
    assert (refused.exit_code, "DELETE" in refused.output) == (1, True)
    assert house.sandbox.requests["DELETE /api/v1/tasks/{task_id}"] == asked
    assert sorted(path.name for path in house.folder.glob("mine*")) == ["mine.py"]
