"""A database with as many sealed values as a test wants, each saying what it should be."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from oo_daemon.connections import connect, registration, sources
from oo_daemon.store import connections, credentials, flows, registrations, schedule
from oo_daemon.store import sources as source_rows
from oo_daemon.store.connections import SignedIn
from oo_daemon.store.database import Database
from oo_daemon.store.flows import SignIn
from oo_daemon.store.registrations import Registration
from oo_daemon.store.sources import Source
from oo_vault import CREDENTIAL, Context, Grant, Keyring, Sealed, Secret

NOW = 1_795_000_000_000_000
OLD, NEW = bytes(range(32)), bytes(range(32, 64))


def grant(number: int) -> Grant:
    """The grant of a connection."""
    return Grant(
        access_token=Secret(f"canary-access-{number:06}-{'x' * 200}"),
        refresh_token=Secret(f"canary-refresh-{number:06}"),
        expires_at=NOW + 3_600_000_000,
        obtained_at=NOW,
        token_version=1,
    )


def fill(database: Database, keyring: Keyring, numbers: Iterable[int]) -> None:
    """Connections with credentials, one for each number."""
    for number in numbers:
        name = f"c{number:06}"
        signed_in = SignedIn(
            id=name,
            user=f"user-{number}",
            provider="acme",
            account="default",
            registration=None,
            provider_account="",
            label="",
            scopes=(),
            meta={},
        )
        connection = connections.put(database, signed_in, NOW)
        schedule.create(database, connection.number, NOW)
        place = Context(purpose=CREDENTIAL, connection=name, user=f"user-{number}", provider="acme", account="default", token_version=1)
        credentials.put(database, connection.number, 1, keyring.seal(place, grant(number).pack()), NOW)


def fill_others(database: Database, keyring: Keyring) -> None:
    """One registration, its source, and a sign-in at the provider."""
    secrets = keyring.wrap(registration.place("acme", "acme"), msgspec.json.encode(["canary-client-secret"]))
    registrations.put(
        database,
        Registration(
            id="acme", provider="acme", client_id="us", key_id=secrets.key_id, secrets=secrets.blob, secret_count=1, created_at=NOW
        ),
    )
    source_rows.put(
        database,
        Source(
            id="acme",
            provider="acme",
            registration="acme",
            connection=None,
            token_hash=b"hash",
            sealed=keyring.wrap(sources.place("acme", "acme"), msgspec.json.encode({"token": "canary-token", "secrets": []})),
            secret_count=0,
            enabled=True,
            created_at=NOW,
        ),
    )
    sign_in = SignIn(
        id="s1",
        registration="acme",
        provider="acme",
        user="ada",
        account="default",
        sealed=None,
        redirect_uri="https://oo.example/oauth/acme/callback",
        scopes=(),
        asked=(),
        return_to="",
        found=None,
        status="open",
        reason="",
        connection=None,
        browser_hash=None,
        created_at=NOW,
        expires_at=NOW + 600_000_000,
    )
    flows.open_(database, sign_in, b"link")
    verifier = keyring.wrap(connect.verifier_place(sign_in), b"canary-verifier")
    flows.begin(database, b"link", NOW, state_hash=b"s", browser_hash=b"b", verifier=verifier, asked=(), expires_at=sign_in.expires_at)


def opened(database: Database, keyring: Keyring) -> list[Grant]:
    """Every grant, opened."""
    rows = database.rows("SELECT id FROM connection ORDER BY number")
    return [credentials.read(database, id_).open(keyring) for (id_,) in rows]


def opened_others(database: Database, keyring: Keyring) -> list[bytes]:
    """What the registration, the source and the sign-in hold, opened."""
    (client,) = registrations.listed(database)
    (source,) = source_rows.listed(database)
    (sign_in,) = flows.sealing(database)
    assert sign_in.sealed is not None
    return [
        keyring.unwrap(registration.place("acme", "acme"), Sealed(key_id=client.key_id, blob=client.secrets)),
        keyring.unwrap(sources.place("acme", "acme"), source.sealed),
        keyring.unwrap(connect.verifier_place(sign_in), sign_in.sealed),
    ]
