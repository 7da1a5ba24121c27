"""What signs people in, keeps and uses their credentials, and knows the addresses of webhooks."""

from __future__ import annotations

import socket
from contextlib import AsyncExitStack

import msgspec

import oo_daemon
from oo_config import Settings
from oo_daemon import listeners, ports
from oo_daemon.app.ground import CONFIRMED, SOURCES, Ground
from oo_daemon.connections.breaker import Breakers
from oo_daemon.connections.budgets import Budgets
from oo_daemon.connections.connect import Connect
from oo_daemon.connections.credential import Credentials
from oo_daemon.connections.forward import Forward
from oo_daemon.connections.give_back import GiveBack
from oo_daemon.connections.guest import LogFor
from oo_daemon.connections.keep_alive import KeepAlive
from oo_daemon.connections.keys import Keys
from oo_daemon.connections.metadata import Published
from oo_daemon.connections.registration import Registrations
from oo_daemon.connections.sources import Sources
from oo_daemon.connections.transport import AiohttpTransport, Transport
from oo_daemon.connections.uses import Uses
from oo_daemon.connections.visits import Visits
from oo_daemon.identity.person import Claims
from oo_daemon.ingress.proving import ReadsTickets, SignsIn
from oo_daemon.ingress.tokens import Vouching
from oo_daemon.ops import log
from oo_daemon.outbox import own
from oo_daemon.store.credentials import CredentialRows
from oo_sdk import Log
from oo_vault import Keyring, Refresher


class Connecting(msgspec.Struct, frozen=True, kw_only=True):
    """What has to do with connections and with who somebody is."""

    door: socket.socket | None  #: of the public listener; a worker has none
    public_url: str
    registrations: Registrations
    sources: Sources
    identity: Identity
    connect: Connect
    visits: Visits
    refresher: Refresher
    keys: Keys
    uses: Uses
    budgets: Budgets
    credentials: Credentials
    forward: Forward
    keep_alive: KeepAlive
    give_back: GiveBack
    log_for: LogFor


async def build(ground: Ground, stack: AsyncExitStack, *, transport: Transport | None, given: socket.socket | None) -> Connecting:
    """`given` is a door that somebody opened for us. Raises `CannotListen`, `ConfigError`."""
    if transport is None:
        real = await ground.guests.run(_transport(ground.settings))
        stack.push_async_callback(lambda: ground.guests.run(real.close()))
        transport = real

    door, public_url = None, ground.settings.public.url
    if ground.role != "worker":
        door, public_url = (given, ground.settings.public.url) if given else listeners.claim_public(ground.settings)
    if door is not None:
        stack.callback(door.close)
    registrations = Registrations(
        storage=ground.storage, keyring=ground.keyring, registry=ground.registry, clock=ground.clock, public_url=public_url
    )
    sources = Sources(
        storage=ground.storage,
        keyring=ground.keyring,
        registry=ground.registry,
        registrations=registrations,
        clock=ground.clock,
        chance=ground.chance,
        public_url=public_url,
        connection_event=own.connection_event,
        told=lambda: ground.storage.tell(SOURCES),
    )
    await sources.prepare()
    for source in sources.closed():
        ground.log.warning("source_closed", source=source.id, reason=source.closed)
    published = Published(transport=transport, guests=ground.guests, clock=ground.clock)
    identity = _identity(ground.settings, published, ground.keyring, ground.chance, ground.clock, public_url, ground.log)
    connect = Connect(
        storage=ground.storage,
        keyring=ground.keyring,
        registry=ground.registry,
        registrations=registrations,
        guests=ground.guests,
        transport=transport,
        clock=ground.clock,
        chance=ground.chance,
        public_url=public_url,
        link_life=ground.settings.oauth.link_ttl,
        flow_life=ground.settings.oauth.flow_ttl,
        pushes_kept=ground.settings.retention.deliveries,
        connection_event=own.connection_event,
        proofs=frozenset(ground.settings.identity.connect),
        published=published,
        return_to=frozenset({*ground.settings.oauth.return_to, f"{public_url}/person"}),
        log=ground.log,
        handed=(lambda: ground.storage.tell(CONFIRMED)) if ground.role == "ingress" else None,
    )
    visits = Visits(
        storage=ground.storage,
        clock=ground.clock,
        chance=ground.chance,
        public_url=public_url,
        link_life=ground.settings.oauth.link_ttl,
        proofs=frozenset(ground.settings.identity.connect),
    )
    stack.push_async_callback(connect.settle)
    refresher = Refresher(
        rows=CredentialRows(ground.storage), keyring=ground.keyring, clock=ground.clock, chance=ground.chance, owner=ground.owner
    )
    stack.push_async_callback(lambda: ground.guests.run(refresher.finish()))
    keys = Keys(
        beside=ground.background.each,
        storage=ground.storage,
        keyring=ground.keyring,
        source=ground.key.where,
        load=ground.key.load,
        settle=lambda: ground.guests.run(refresher.finish()),
        clock=ground.clock,
        log=ground.log,
    )
    stack.push_async_callback(keys.stop)
    if ground.role != "ingress":
        await keys.go_on()
    uses = Uses(storage=ground.storage, clock=ground.clock, kept=ground.settings.retention.uses)
    stack.push_async_callback(uses.write)
    budgets = Budgets(storage=ground.storage, clock=ground.clock, metrics=ground.metrics)
    sessions = Credentials(
        refresher=refresher,
        registrations=registrations,
        transport=transport,
        clock=ground.clock,
        metrics=ground.metrics,
        used=uses.used,
        budgets=budgets,
        breakers=Breakers(monotonic=ground.clock.monotonic, metrics=ground.metrics),
        trace=ground.trace,
    )
    streams = transport if isinstance(transport, AiohttpTransport) else await ground.guests.run(_transport(ground.settings))
    if streams is not transport:
        stack.push_async_callback(lambda: ground.guests.run(streams.close()))
    forward = Forward(credentials=sessions, streams=streams, clock=ground.clock)
    keep_alive = KeepAlive(storage=ground.storage, registry=ground.registry, credentials=sessions, guests=ground.guests, clock=ground.clock)
    log_for = _log_for(ground.keyring)
    give_back = GiveBack(
        storage=ground.storage,
        keyring=ground.keyring,
        registry=ground.registry,
        registrations=registrations,
        guests=ground.guests,
        transport=transport,
        clock=ground.clock,
        log_for=log_for,
        log=ground.log,
    )
    return Connecting(
        door=door,
        public_url=public_url,
        registrations=registrations,
        sources=sources,
        identity=identity,
        connect=connect,
        visits=visits,
        refresher=refresher,
        keys=keys,
        uses=uses,
        budgets=budgets,
        credentials=sessions,
        forward=forward,
        keep_alive=keep_alive,
        give_back=give_back,
        log_for=log_for,
    )


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Who vouches for people, as far as the operator has set it up."""

    callers: Vouching | None = None
    sign_in: SignsIn | None = None
    tickets: ReadsTickets | None = None


def _identity(
    settings: Settings, published: Published, keyring: Keyring, chance: ports.Chance, clock: ports.Clock, public_url: str, out: Log
) -> Identity:
    """Raises `ConfigError` for a file of identity's that cannot be read."""
    known = settings.identity
    if not known.issuer and "ticket" not in known.connect:
        return Identity()
    # Here, since it brings 20 MB and half a second that only those should pay who use it.
    from oo_daemon.identity import files
    from oo_daemon.identity.issuer import Callers, Issuer
    from oo_daemon.identity.sign_in import OpenId
    from oo_daemon.identity.tickets import Tickets

    tickets = None
    if "ticket" in known.connect:
        tickets = Tickets(keys=files.public_keys(known.ticket_keys), audience=public_url, clock=clock)
    if not known.issuer:
        return Identity(tickets=tickets)
    claims = Claims(user=known.user_claim, roles=known.roles_claim, operators=known.operator_roles, viewers=known.viewer_roles)
    issuer = Issuer(name=known.issuer, algorithms=known.algorithms, claims=claims, published=published, clock=clock, log=out)
    sign_in = None
    if known.client_id:
        secret = files.secret(known.client_secret_file)
        sign_in = OpenId(issuer=issuer, client_id=known.client_id, secret=secret, scopes=known.scopes, keyring=keyring, chance=chance)
    callers = Callers(issuer=issuer, audience=known.audience) if known.audience else None
    return Identity(callers=callers, sign_in=sign_in, tickets=tickets)


def _log_for(keyring: Keyring) -> LogFor:
    return lambda connection, provider: log.Lazy(lambda: log.logger(connection=keyring.log_tag(connection), provider=provider))


async def _transport(settings: Settings) -> AiohttpTransport:
    return AiohttpTransport(
        connect_timeout=settings.http.connect_timeout,
        read_timeout=settings.http.read_timeout,
        response_limit=settings.http.response_limit,
        user_agent=f"oo-integrations/{oo_daemon.__version__}",
    )
