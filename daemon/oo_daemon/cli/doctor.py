"""`oo doctor`: looks at each part of an installation, and says what to do. Works without the daemon, too."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import click
import msgspec

from oo_client import Client, ClientError, Registration
from oo_daemon.cli import terminal
from oo_daemon.cli.bundle import write as write_bundle
from oo_daemon.cli.call import Call, json_option, plugins_of, quiet_option
from oo_daemon.cli.terminal import Column, Exit, NotDone

if TYPE_CHECKING:
    from oo_config import Settings

COLUMNS: Final = (Column(title="Part"), Column(title="It is"), Column(title="What it says", gives=True))
#: A backup that is older than this is worth a word.
OLD: Final = timedelta(hours=26)
#: Seconds for one question to our own public address.
PATIENCE: Final = 10.0

State = Literal["well", "worth a look", "broken"]
#: What is wrong, sentence by sentence; one text alone is a word about what is well.
Look = Callable[["Settings"], Sequence[str] | str]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One part. What is broken keeps the daemon from working."""

    part: str
    state: State
    says: str = ""


@click.command()
@click.option("--bundle", type=click.Path(path_type=Path, dir_okay=False), help="Also write what a helper needs into this zip file.")
@click.option("--public", is_flag=True, help="Also ask whether the public address is reached from outside, and fits what providers know.")
@json_option
@quiet_option
@click.pass_context
def doctor(ctx: click.Context, bundle: Path | None, public: bool, as_json: bool, quiet: bool) -> None:
    """Look at each part of this installation, and say what to do. Ends with 1 where something is broken.

    A bundle holds versions, settings without their secrets, findings and numbers: nothing of anybody, so that it can be shown to others.
    """
    call: Call = ctx.obj
    with terminal.waiting("Looking", quiet=quiet):
        found = list(_look(call, public=public))
    if bundle is not None:
        write_bundle(call, bundle, [{"part": it.part, "state": it.state, "says": it.says} for it in found])
        if not quiet:
            terminal.note(f"Wrote {bundle}. It names no user, no account and no secret; look into it before you hand it on.")
    if as_json:
        terminal.show_json({"findings": [{"part": it.part, "state": it.state, "says": it.says} for it in found]})
    else:
        terminal.show_table(COLUMNS, ((it.part, it.state, it.says) for it in found))
    if any(it.state == "broken" for it in found):
        ctx.exit(Exit.NOT_DONE)


def _look(call: Call, *, public: bool) -> Iterator[Finding]:
    from oo_config import ConfigError

    try:
        settings = call.settings
    except ConfigError as wrong:
        yield Finding(part="settings", state="broken", says=str(wrong))
        return  # nothing else can be found without them
    yield Finding(part="settings", state="well")
    for part, look in LOOKS.items():
        yield _guarded(part, look, settings)
    yield from asyncio.run(_ask_daemon(settings, public=public))


def _guarded(part: str, look: Look, settings: Settings) -> Finding:
    """A look that fails is a finding, too: who calls the doctor does not want a traceback."""
    try:
        wrong = look(settings)
    except Exception as error:
        return Finding(part=part, state="broken", says=str(error) or type(error).__name__)
    if isinstance(wrong, str):
        return Finding(part=part, state="well", says=wrong)
    return Finding(part=part, state="worth a look" if wrong else "well", says=" ".join(wrong))


def _folder(settings: Settings) -> Sequence[str]:
    """The folder for what must not be lost."""
    from oo_daemon.store.database import refuse_network

    folder = settings.places.state
    if not folder.is_dir():
        return [f"{folder} is not there yet; `oo run` makes it."]
    refuse_network(folder.resolve(), Path("/proc/self/mounts").read_text(errors="surrogateescape"))
    found = os.statvfs(folder)
    free = found.f_bavail * found.f_frsize
    wrong = []
    if free < settings.disk.least_free:
        wrong.append(f"{terminal.size(free)} are left in {folder}, less than disk.least_free: nothing new is taken in.")
    if folder.stat().st_mode & 0o077:
        wrong.append(f"Others may look into {folder}: chmod 700.")
    return wrong


def _key(settings: Settings) -> Sequence[str]:
    """The root key, where it is a file."""
    from oo_vault import read_key_file

    if settings.vault.keys_from != "file":
        return []
    if not settings.vault.key_file.exists():
        return ["There is no key yet: `oo vault init`."]
    read_key_file(settings.vault.key_file)
    return []


def _database(settings: Settings) -> Sequence[str]:
    """The file, by a quick check, or the server, by reaching it; nothing is changed."""
    from oo_daemon.store.engines import look_over

    return look_over(settings.places.database)


def _backups(settings: Settings) -> Sequence[str] | str:
    """How old the newest backup is."""
    if not isinstance(settings.places.database, Path):
        return "PostgreSQL is backed up on its own server, which cannot be seen from here: pg_dump, or pgBackRest for every moment."
    if not settings.places.database.exists():
        return []
    ages = [datetime.now(UTC) - datetime.fromtimestamp(path.stat().st_mtime, UTC) for path in settings.backup.folder.glob("oo-*.backup")]
    if not ages:
        return [f"There is none in {settings.backup.folder}: `oo backup`, or the timer of `oo systemd install`."]
    return [f"The newest is {min(ages).days * 24 + min(ages).seconds // 3600} hours old: is the timer on?"] if min(ages) > OLD else []


def _plugins(settings: Settings) -> Sequence[str]:
    """What could not be loaded, and what is wrong with what they were given."""
    found, wrong = plugins_of(settings)
    struck = [f"{it.name} is set aside: {it.reason}" for it in found.plugins if it.struck]
    return [f"{each}." for each in (*struck, *wrong)]


def _traces(settings: Settings) -> Sequence[str] | str:
    """Whether what sends them is installed, and somebody takes them."""
    from yarl import URL

    if not settings.traces.endpoint:
        return "None are made."
    if find_spec("opentelemetry") is None or find_spec("opentelemetry.sdk") is None:
        raise NotDone("what sends them is not installed", "`pip install 'oo-integrations[traces]'`, or leave out traces.endpoint")
    where = URL(settings.traces.endpoint)
    try:
        socket.create_connection((where.host or "", where.port or 0), PATIENCE / 5).close()
    except OSError:
        return [f"Nobody answers at {where.host}:{where.port}: they are lost until a collector does."]
    return []


LOOKS: Final[dict[str, Look]] = {
    "folder": _folder,
    "key": _key,
    "database": _database,
    "backups": _backups,
    "plugins": _plugins,
    "traces": _traces,
}


async def _ask_daemon(settings: Settings, *, public: bool) -> list[Finding]:
    """What the daemon itself says, if it runs."""
    try:
        async with Client(settings.places.socket) as client:
            health = await client.health()
            registrations = await client.registrations()
            counted = (await client.status()).connections
    except ClientError as wrong:
        return [Finding(part="daemon", state="broken", says=str(wrong))]
    states: dict[str, State] = {"ok": "well", "warning": "worth a look", "failing": "broken"}
    found = [Finding(part=f"daemon: {name}", state=states[part.status], says=part.says) for name, part in health.parts.items()]
    if waiting := counted.get("needs_sign_in", 0):
        says = f"{terminal.count(waiting, 'connection')} must be signed in again: `oo connections`."
        found.append(Finding(part="connections", state="worth a look", says=says))
    if public:
        found += await _ask_public(settings, registrations)
    return found


async def _ask_public(settings: Settings, registrations: Sequence[Registration]) -> list[Finding]:
    """Ask our own public address, as a provider would: by its name, through the proxy, with its certificate checked."""
    import aiohttp

    url = settings.public.url
    found = []
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE), trust_env=False) as session:
            async with session.get(f"{url}/", allow_redirects=False) as answer:
                ours = answer.headers.get("Referrer-Policy") == "no-referrer" and answer.status == HTTPStatus.OK
                says = "" if ours else f"{url} answers {answer.status}, and not as oO does: point the proxy at the public listener."
                found.append(Finding(part="public address", state="well" if ours else "broken", says=says))
    except (aiohttp.ClientError, TimeoutError) as wrong:
        says = f"{url} cannot be reached from here ({type(wrong).__name__}): check its name, its certificate and the proxy."
        found.append(Finding(part="public address", state="broken", says=says))
    if not url.startswith("https://"):
        says = f"{url} is plain http: only this machine can sign in, and most providers take no webhook there. Set public.url."
        found.append(Finding(part="TLS", state="worth a look", says=says))
    odd = [each.id for each in registrations if not each.redirect_uri.startswith(url)]
    says = f"The redirect addresses of {', '.join(odd)} are not below {url}: add those registrations again." if odd else ""
    found.append(Finding(part="redirect addresses", state="broken" if odd else "well", says=says))
    return found
