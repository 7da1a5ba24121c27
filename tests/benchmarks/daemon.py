"""The daemon as users run it, in this process, with a guest of the benchmarks' own that is installed as any stranger's is."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from oo_config import load
from oo_daemon.app import App, build
from oo_daemon.host import settle
from oo_daemon.ops import log
from oo_daemon.ports import SECOND
from oo_daemon.store import connections, credentials, schedule
from oo_daemon.store.connections import Connection, SignedIn
from oo_daemon.store.database import Database
from oo_vault import Context, CredentialRow, Grant, Keyring, Secret, create_key_file, read_key_file

GUEST = Path(__file__).with_name("guest")
FAR = 10 * 365 * 86_400 * SECOND

Tables = Mapping[str, Mapping[str, Any]]


def prepare(folder: Path, tables: Tables) -> Path:
    """A folder in which the daemon can be started: key and settings. Gives the settings file."""
    create_key_file(folder / "root.key")
    known: dict[str, Mapping[str, Any]] = {
        "places": {"state": str(folder)},
        "public": {"port": 0, "max_connections_per_address": 1000, "source_rate": 1_000_000},
        "plugins": {"enabled": ["bench-oo"]},
        **tables,
    }
    lines = [
        line for name, table in known.items() for line in (f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items()))
    ]
    settings = folder / "oo.toml"
    settings.write_text("\n".join(lines))
    return settings


@asynccontextmanager
async def daemon(folder: Path, tables: Tables) -> AsyncIterator[App]:
    """A daemon that runs here."""
    settings = folder / "oo.toml"
    if not settings.exists():
        prepare(folder, tables)
    sys.path.insert(0, str(GUEST))
    log.configure(level="info", style="json", stream=io.StringIO())
    async with build(load(settings, {})) as app:
        settle()
        yield app


async def connect(app: App, provider: str, *, now: int, due: int | None) -> Connection:
    """One connection with a credential that will last, due at that time."""
    keyring = read_key_file(app.settings.vault.key_file)

    def put(database: Database) -> Connection:
        signed_in = SignedIn(
            id="connection-1",
            user="ada",
            provider=provider,
            account="default",
            registration=_registration(database, keyring, provider),
            provider_account="a-1",
            label="",
            scopes=(),
            meta={},
        )
        connection = connections.put(database, signed_in, now)
        _credential(database, keyring, connection, now)
        schedule.create(database, connection.number, due)
        return connection

    return await app.storage.write(put)


def _registration(database: Database, keyring: Keyring, provider: str) -> str:
    sealed = keyring.wrap(Context(purpose=f"client secrets of {provider}", provider=provider), json.dumps(["s" * 40]).encode())
    database.rows(
        "INSERT INTO registration (id, provider, client_id, key_id, secrets, secret_count, created_at) VALUES (?, ?, ?, ?, ?, 1, 1)",
        (provider, provider, "client", sealed.key_id, sealed.blob),
    )
    return provider


def _credential(database: Database, keyring: Keyring, connection: Connection, now: int) -> None:
    grant = Grant(access_token=Secret("t" * 40), refresh_token=Secret("r" * 40), expires_at=now + FAR, obtained_at=now)
    row = CredentialRow(
        connection=connection.id,
        user=connection.user,
        provider=connection.provider,
        account=connection.account,
        sealed=keyring.known_answer(),
        token_version=1,
        expires_at=grant.expires_at,
    )
    credentials.put(database, connection.number, 1, keyring.seal(row.context(), grant.pack()), grant.expires_at)


def many_credentials(database: Database, key_file: Path, rows: int) -> None:
    """So many more connections, each with a credential of about 500 bytes."""
    keyring, now = read_key_file(key_file), 1_795_000_000 * SECOND
    for number in range(rows):
        id_ = f"many-{number}"
        context = Context(purpose="credential", connection=id_, user=id_, provider="bench_idle", account="default", token_version=1)
        sealed = keyring.seal(context, b"\1" + bytes(500))
        ((connection,),) = database.rows(
            'INSERT INTO connection (id, "user", provider, account, state, reason, provider_account, label, scopes, meta, created_at, '
            "changed_at, version) VALUES (?, ?, 'bench_idle', 'default', 'active', '', '', '', '', '{}', ?, ?, 1) RETURNING number",
            (id_, id_, now, now),
        )
        credentials.put(database, connection, 1, sealed, None)
