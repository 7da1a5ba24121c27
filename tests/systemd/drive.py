"""Runs beside the service, in the container: what a host's people and providers do, and what they saw, as JSON in /out/seen.json.

Run by the installed Python: nothing of the tests' environment is there but the stranger's provider.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import aiohttp
from journeys.acme import CLIENT, SECRET, Acme, served

import oo_daemon
from oo_client import Client
from oo_daemon.cli.stage import Browser

SOCKET = Path("/run/oo-integrations/oo.sock")
PUBLIC = "http://127.0.0.1:8710"
OO = "/opt/oo-integrations/bin/oo"
RESTARTS = int(sys.argv[1])
RATE = 50  #: requests a second
#: Where the stranger's connector looks for its provider.
ACME = ("127.0.0.1", int(sys.argv[2]))


def run(*command: str, given: str = "") -> str:
    """Run a command to its end."""
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False, timeout=100)
    if done.returncode:
        raise RuntimeError(f"{command} ended with {done.returncode}: {done.stdout} {done.stderr}")
    return done.stdout


def shown(*names: str) -> dict[str, str]:
    """Properties of the service."""
    lines = run("systemctl", "show", "oo-integrations.service", *(f"--property={name}" for name in names)).splitlines()
    return dict(line.partition("=")[::2] for line in lines)


async def sandbox() -> dict[str, Any]:
    """Start Todoist's stand-in, and point the service at it."""
    child = await asyncio.create_subprocess_exec(OO, "sandbox", "todoist", "--port", "0", "--json", stdout=subprocess.PIPE)
    assert child.stdout is not None
    told: dict[str, Any] = json.loads(await asyncio.wait_for(child.stdout.readline(), 20))
    with Path("/etc/oo-integrations/oo.toml").open("a") as settings:
        settings.write("[connectors.todoist]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in told["settings"].items()))
    run("systemctl", "restart", "oo-integrations.service")
    return told


async def life(told: dict[str, Any]) -> dict[str, Any]:
    """Sign in, sync, be pushed to, refresh, disconnect."""
    run(OO, "registration", "add", "todoist", "--client-id", told["client_id"], "--secret-file", "-", given=told["client_secret"])
    async with Client(SOCKET) as client, Browser() as browser, aiohttp.ClientSession() as http:
        session = await client.connect(provider="todoist", user="ada")
        await browser.open(session.url)
        await browser.press()
        await browser.press("decision", "allow")
        await browser.press("answer", "yes")
        reached = await client.connect_progress(session.id)
        assert reached.connection is not None, reached
        synced = await client.sync_and_wait(reached.connection)
        (registration,) = await client.registrations()

        async def control(what: str, body: dict[str, Any]) -> None:
            async with http.post(f"{told['address']}/sandbox/{what}", json=body) as answer:
                assert answer.status == 200, await answer.text()

        await control("webhook", {"url": registration.webhook_url})
        end = (await client.page(limit=500)).position
        await control("change", {"user": "ada", "commands": [{"type": "item_add", "args": {"content": "Pushed"}}]})
        pushed = await client.page(after=end, wait=20)
        await control("misbehave", {"name": "expire_tokens", "times": 1, "args": {}})
        refreshed = await client.sync_and_wait(reached.connection)
        run("systemctl", "reload", "oo-integrations.service")
        reloaded = await client.sync_and_wait(reached.connection)
        gone = await client.disconnect(reached.connection, wait=20)
        erased = await client.erasure((await client.erase_user("ada")).id, wait=20)
        return {
            "synced": synced.outcome,
            "pushed": len(pushed.events),
            "refreshed": refreshed.outcome,
            "reloaded": reloaded.outcome,
            "disconnected": gone.state,
            "erased": erased.state,
            "health": (await client.health()).status,
        }


async def stranger() -> dict[str, Any]:
    """Enable a stranger's plugin, which the operator has installed beside ours: its connector fetches, and its sink writes a file."""

    def states() -> dict[str, str]:
        return {
            each["id"]: each["state"] for each in json.loads(run(OO, "plugins", "--json"))["plugins"] if each["distribution"] == "acme-oo"
        }

    before, lines = states(), Path("/var/lib/oo-integrations/acme.jsonl")
    with Path("/etc/oo-integrations/oo.toml").open("a") as settings:
        settings.write(f'[plugins]\nenabled = ["acme-oo"]\n[sinks.acme_file]\npath = "{lines}"\n')
    installed = run(OO, "plugins", "--installed")
    run("systemctl", "restart", "oo-integrations.service")
    provider = Acme()
    for name in ("one", "two", "three"):
        provider.note(name, f"Note {name}")
    async with served(provider, socket.create_server(ACME)), Client(SOCKET) as client, Browser() as browser:
        run(OO, "registration", "add", "acme_notes", "--client-id", CLIENT, "--secret-file", "-", given=SECRET)
        session = await client.connect(provider="acme_notes", user="bob")
        await browser.open(session.url)
        await browser.press()
        await browser.press("answer", "yes")
        reached = await client.connect_progress(session.id)
        assert reached.connection is not None, reached
        synced = await client.sync_and_wait(reached.connection)
        events = [event async for event in client.events(follow=False, provider="acme_notes")]
        async with asyncio.timeout(20):
            while not lines.exists() or "Note three" not in lines.read_text():
                await asyncio.sleep(0.05)
        gone = await client.disconnect(reached.connection, wait=20)
    return {
        "before": before,
        "installed": "acme_notes" in installed,
        "after": states(),
        "synced": synced.outcome,
        "notes": len([event for event in events if event.type == "acme_notes.note"]),
        "gone": gone.state,
        "revoked": provider.revoked,
    }


async def imported() -> dict[str, Any]:
    """Hand in an export, and look at how the process that reads it is scheduled."""
    record = '<Record type="HKQuantityTypeIdentifierStepCount" sourceName="phone" unit="count" startDate="{0}" endDate="{0}" value="7"/>'
    times = (f"2024-{number % 12 + 1:02}-{number % 28 + 1:02} 08:{number // 60 % 60:02}:{number % 60:02} +0000" for number in range(20_000))
    export = f'<HealthData locale="en">{"".join(map(record.format, times))}</HealthData>'.encode()
    main, niceness = shown("MainPID")["MainPID"], set()
    async with Client(SOCKET) as client:
        made = await client.await_upload(provider="apple_health", user="grace", name="export.xml", size=len(export))
        await client.send_upload(made.upload.id, export, offset=0)
        while (found := await client.upload(made.upload.id)).state in {"queued", "running"}:
            with contextlib.suppress(OSError):
                for pid in Path(f"/proc/{main}/task/{main}/children").read_text().split():
                    niceness.add(int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[16]))
    return {"state": found.state, "records": found.records, "nicest": max(niceness)}


async def restarts() -> dict[str, Any]:
    """Restart the service again and again while people ask, at last by installing it anew; count who was turned away, and the longest wait.

    Each time those who waited are answered first: else a slow machine, on which the service is down most of the time, is asked for more
    than it can do.
    """
    loop = asyncio.get_running_loop()
    seen = {"asked": 0, "answered": 0, "refused": 0, "cut": 0, "late": 0, "longest": 0.0, "wrong": 0}
    ended = asyncio.Event()

    async def ask(session: aiohttp.ClientSession) -> None:
        began = loop.time()
        seen["asked"] += 1
        try:
            async with session.get(f"{PUBLIC}/") as answer:
                await answer.read()
                seen["wrong"] += answer.status != 200
                seen["answered"] += 1
        except aiohttp.ClientConnectorError:
            seen["refused"] += 1
        except TimeoutError:
            seen["late"] += 1
        except (aiohttp.ClientError, OSError):
            seen["cut"] += 1
        seen["longest"] = max(seen["longest"], loop.time() - began)

    async def fresh() -> None:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session, asyncio.TaskGroup() as asking:
            while not ended.is_set():
                asking.create_task(ask(session))
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(ended.wait(), 1 / RATE)

    async def kept() -> None:
        async with aiohttp.ClientSession() as session:
            while not ended.is_set():
                await ask(session)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(ended.wait(), 1 / RATE)

    async with asyncio.TaskGroup() as people:
        people.create_task(fresh())
        people.create_task(kept())
        for command in [*[("systemctl", "restart", "oo-integrations.service")] * RESTARTS, (OO, "systemd", "install")]:
            await asyncio.to_thread(run, *command)
            asked = seen["asked"]
            while seen["answered"] + seen["refused"] + seen["cut"] + seen["late"] < asked:
                await asyncio.sleep(0.01)
        ended.set()
    return seen


def compiled() -> bool:
    """Whether the service finds its own code compiled: it may not write into the folder where that is."""
    return bool(list(Path(oo_daemon.__file__).parent.glob("app/__pycache__/ground.*.pyc")))


async def frozen() -> dict[str, Any]:
    """Stop the process as a hung loop would; systemd must notice and start another."""
    before = shown("MainPID", "NRestarts")
    os.kill(int(before["MainPID"]), signal.SIGSTOP)
    return await replaced(before)


async def database_frozen() -> dict[str, Any]:
    """Keep the database from being written, as a hung disk would; the watchdog must not be fed by a loop that merely turns."""
    before = shown("NRestarts")
    holding = (
        "import apsw, sys; d = apsw.Connection(sys.argv[1]); d.execute('BEGIN IMMEDIATE'); print('held', flush=True); sys.stdin.read()"
    )
    holder = await asyncio.create_subprocess_exec(
        sys.executable, "-c", holding, "/var/lib/oo-integrations/oo.sqlite3", stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    assert await holder.stdout.readline() == b"held\n"
    async with asyncio.timeout(35):
        while shown("NRestarts") == before:
            await asyncio.sleep(0.1)
    holder.stdin.close()
    await holder.wait()
    return await replaced(before)


async def replaced(before: dict[str, str]) -> dict[str, Any]:
    """Wait until another process is well."""
    began = asyncio.get_running_loop().time()
    async with asyncio.timeout(60):
        while True:
            now = shown("NRestarts", "SubState")
            if now["NRestarts"] != before["NRestarts"] and now["SubState"] == "running":
                break
            await asyncio.sleep(0.1)
    took = asyncio.get_running_loop().time() - began
    async with Client(SOCKET) as client:
        return {"after": took, "health": (await client.health()).status}


async def key(name: str) -> dict[str, Any]:
    """How systemd gives the unit its key, and what the daemon makes of it."""
    async with Client(SOCKET) as client:
        found = await client.vault()
        return {
            "given": next(
                line for line in run("systemctl", "cat", "oo-integrations.service").splitlines() if line.startswith("LoadCredential")
            ),
            "source": found.source,
            "ids": [key.id for key in found.keys],
            "sealed": found.rotation.done,
            "on_disk": Path(f"/etc/oo-integrations/{name}").read_bytes().startswith(b"oo1-"),
        }


async def plain_key() -> dict[str, Any]:
    """Take the sealing to the host away, install again over doors of an older version at which people knock, and look."""
    for name in ("oo-integrations.socket", "oo-integrations-private.socket"):
        unit = Path("/etc/systemd/system") / name
        unit.write_text(unit.read_text().replace("[Socket]", "[Socket]\nTimeoutSec=10"))
    run("systemctl", "daemon-reload")
    folder = Path("/etc/oo-integrations")
    run("systemd-creds", "decrypt", "--name=oo-root-key", str(folder / "root.cred"), str(folder / "root.key"))
    (folder / "root.key").chmod(0o400)
    (folder / "root.cred").unlink()
    over = asyncio.Event()

    async def knock() -> None:
        while not over.is_set():
            with contextlib.suppress(OSError):
                _, door = await asyncio.open_connection("127.0.0.1", 8710)
                door.close()
                _, door = await asyncio.open_unix_connection("/run/oo-integrations/oo.sock")
                door.close()
            await asyncio.sleep(0.001)  # so often do people knock

    knocking = asyncio.create_task(knock())
    await asyncio.to_thread(run, OO, "systemd", "install")
    over.set()
    await knocking
    return await key("root.key")


async def main() -> None:
    """Everything, in order."""
    seen: dict[str, Any] = {}
    seen["compiled"] = compiled()
    told = await sandbox()
    seen["life"] = await life(told)
    seen["stranger"] = await stranger()
    seen["imported"] = await imported()
    seen["encrypted"] = await key("root.cred")
    seen["unit"] = shown("NRestarts", "Result", "ActiveState", "StatusText", "User")
    run("systemctl", "start", "oo-integrations-backup.service")
    seen["backups"] = len(json.loads(run(OO, "backup", "--list", "--json"))["backups"])
    pid = shown("MainPID")["MainPID"]
    seen["status"] = {
        line.split(":")[0]: line.split(":")[1].strip() for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line
    }
    seen["restarts"] = await restarts()
    seen["frozen"] = await frozen()
    seen["database_frozen"] = await database_frozen()
    seen["plain"] = await plain_key()
    seen["log"] = run("journalctl", "-u", "oo-integrations.service", "--output=cat", "--no-pager")
    Path("/out/seen.json").write_text(json.dumps(seen))


asyncio.run(main())
