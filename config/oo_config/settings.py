"""The settings: every one declared once. The loader, the example file and the manual page are derived from this file."""

# ruff: noqa: RUF009  # the calls in the class bodies are `field` with our words; what they give is never shared

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta

from oo_config import places
from oo_config.declared import Known, derived, setting
from oo_config.spelling import MIB, Bytes, DatabasePlace, FilePath, Host, Networks, Seconds, Url, is_loopback

#: Seconds.
DAY = 86_400.0

Port = Annotated[int, Meta(ge=0, le=65535)]
Count = Annotated[int, Meta(ge=1, le=1_000_000)]
Batch = Annotated[int, Meta(ge=1, le=500)]
Days = Annotated[int, Meta(ge=0, le=36_500)]
Uid = Annotated[int, Meta(ge=0, le=2**32 - 2)]
Group = Annotated[str, Meta(pattern=r"\A[A-Za-z_][A-Za-z0-9_.-]*\$?\Z", description="the name of a group")]
KeysFrom = Annotated[str, Meta(pattern=r"\A[a-z][a-z0-9_]{0,63}\Z", description="file, environment, or the id of a key source")]
Page = Annotated[
    str,
    Meta(
        pattern=r"\A(https://[A-Za-z0-9.-]+|http://(localhost|127\.0\.0\.1|\[::1\]))(:[0-9]{1,5})?(/[!$&-;=?-Z_a-z~%]*)?\Z",
        description="an https:// address, or http:// on loopback",
    ),
]
Issuer = Annotated[
    str,
    Meta(
        pattern=r"\A((https://[A-Za-z0-9.-]+|http://(localhost|127\.0\.0\.1|\[::1\]))(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?)?\Z",
        description="an https:// address, or http:// on loopback; or nothing",
    ),
]
Collector = Annotated[
    str,
    Meta(
        pattern=r"\A(https?://([A-Za-z0-9.-]+|\[[0-9a-fA-F:.]+\])(:[0-9]{1,5})?/[A-Za-z0-9._~/-]*)?\Z",
        description="an http:// or https:// address with its path; or nothing",
    ),
]
Percent = Annotated[int, Meta(ge=0, le=100)]
Word = Annotated[str, Meta(pattern=r"\A[!-~]{0,256}\Z", description="a word of visible ASCII, or nothing")]
Claim = Annotated[str, Meta(pattern=r"\A[!-~]{1,256}\Z", description="the name of a claim")]
Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519", "EdDSA"]
Distribution = Annotated[
    str, Meta(pattern=r"\A[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?\Z", description="the name of an installed distribution")
]


def _state(environ: Mapping[str, str], known: Known) -> Path:
    return places.state(environ)


def _database(environ: Mapping[str, str], known: Known) -> Path:
    return Path(known["places.state"]) / "oo.sqlite3"


def _socket(environ: Mapping[str, str], known: Known) -> Path:
    return (places.unit_folder(environ, "RUNTIME_DIRECTORY") or Path(known["places.state"])) / "oo.sock"


def _backups(environ: Mapping[str, str], known: Known) -> Path:
    return Path(known["places.state"]) / "backups"


def _key_file(environ: Mapping[str, str], known: Known) -> Path:
    return places.credential(environ, "oo-root-key") or Path(known["places.state"]) / "root.key"


def _bundle_file(environ: Mapping[str, str], known: Known) -> Path:
    return places.credential(environ, "oo-ingress-bundle") or Path(known["places.state"]) / "ingress.bundle"


def _client_secret(environ: Mapping[str, str], known: Known) -> Path:
    return places.credential(environ, "oo-identity-secret") or Path(known["places.state"]) / "identity.secret"


def _ticket_keys(environ: Mapping[str, str], known: Known) -> Path:
    return Path(known["places.state"]) / "ticket-keys.json"


def _url(environ: Mapping[str, str], known: Known) -> str:
    host, port = known["public.host"], known["public.port"]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where the daemon keeps what it must not lose, and where the command reaches it."""

    state: FilePath = derived(
        _state,
        "$STATE_DIRECTORY, else $XDG_STATE_HOME/oo-integrations, else ~/.local/state/oo-integrations",
        "folder for everything that must outlive a restart; on a local file system",
    )
    database: DatabasePlace = derived(
        _database,
        "oo.sqlite3 in places.state",
        "SQLite file with connections, inbox and outbox; or the PostgreSQL that several daemons share",
    )
    socket: FilePath = derived(_socket, "oo.sock in $RUNTIME_DIRECTORY, else in places.state", "Unix socket of the private listener")

    @property
    def beside(self) -> Path:
        """The folder for what lies beside the database: its own where it is a file, else the one for everything that must not be lost."""
        return self.database.parent if isinstance(self.database, Path) else self.state

    @property
    def locked(self) -> Path:
        """What one daemon alone may use: the database where it is a file, else the folder beside it."""
        return self.database if isinstance(self.database, Path) else self.state / "daemon"


@dataclass(frozen=True, slots=True, kw_only=True)
class Vault:
    """Where the vault finds the key without which no credential can be read."""

    keys_from: KeysFrom = setting(
        "file", "file, environment (the variable OO_ROOT_KEY, which is then removed), or the id of a key source that unwraps key_file"
    )
    key_file: FilePath = derived(
        _key_file,
        "the systemd credential oo-root-key where there is one, else root.key in places.state",
        "file with the root keys, one per line, newest first; mode 0400",
    )
    bundle_file: FilePath = derived(
        _bundle_file,
        "the systemd credential oo-ingress-bundle where there is one, else ingress.bundle in places.state",
        "file that `oo vault bundle` writes, which is all that an ingress process needs of the keys; mode 0400",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Public:
    """The public listener: webhooks, sign-in at providers, uploads and the person's pages, behind a TLS proxy."""

    host: Host = setting("127.0.0.1", "address to listen on; loopback, since the TLS proxy faces the world")
    port: Port = setting(8710, "TCP port to listen on; 0 takes any free one")
    url: Url = derived(_url, "http://host:port", "address at which people and providers reach this host, through the TLS proxy")
    header_timeout: Seconds = setting(5.0, "time for a request's headers; a slower client is cut off")
    body_timeout: Seconds = setting(10.0, "time for a whole request body; uploads are held to min_rate instead")
    min_rate: Bytes = setting(1000, "slowest pace per second at which a body may arrive")
    keepalive: Seconds = setting(75.0, "how long an idle client is kept for its next request")
    max_connections: Count = setting(1000, "open sockets in all, so that a flood cannot use up the file descriptors")
    max_connections_per_address: Count = setting(100, "open sockets per client address, so that one client cannot have them all")
    body_limit: Bytes = setting(1 * MIB, "largest webhook body, unpacked; a bigger one gets 413")
    source_rate: Count = setting(1000, "deliveries a second that one source may send on and on; above it 429")
    trusted_proxies: Networks = setting((), "proxies whose word on the client's address is believed; none are unless named")
    forwarded_by: Literal["X-Forwarded-For", "Forwarded"] = setting(
        "X-Forwarded-For", "header in which they name it; the other one is never read, since a client may have written it"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Private:
    """The private listener: who is an administrator on the Unix socket, besides root and the daemon's own user, and its door on TCP."""

    port: Port = setting(0, "TCP port on 127.0.0.1 for callers with a token (`oo token create`); 0 keeps that door shut")
    admin_uids: tuple[Uid, ...] = setting((), "numeric ids of users who may administer")
    admin_groups: tuple[Group, ...] = setting((), "groups whose members may administer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who somebody is, by the word of an OpenID Connect issuer, or of your product."""

    issuer: Issuer = setting("", "OpenID Connect issuer that vouches for people; compared letter by letter")
    algorithms: tuple[Algorithm, ...] = setting(("RS256",), "algorithms with which it may sign; no others are looked at")
    audience: Word = setting("", "what a token of the issuer's must be made for to be taken by the API; empty: none is")
    user_claim: Claim = setting("sub", "claim that is the user, as your product names them")
    roles_claim: Claim = setting("roles", "claim that holds a person's roles")
    operator_roles: tuple[Claim, ...] = setting((), "roles that may do everything, in the API and in the console")
    viewer_roles: tuple[Claim, ...] = setting((), "roles that may look at everything")
    client_id: Word = setting("", "our client at the issuer, with which people sign in on our pages; empty: they do not")
    client_secret_file: FilePath = derived(
        _client_secret,
        "the systemd credential oo-identity-secret where there is one, else identity.secret in places.state",
        "file with that client's secret, mode 0400; without the file it is a public client",
    )
    scopes: tuple[Claim, ...] = setting(("openid",), "what is asked for when somebody signs in; the claims that are needed depend on it")
    connect: tuple[Literal["sign_in", "ticket"], ...] = setting(
        (), "how the person behind a connect link proves who they are: at the issuer, or by a ticket of your product; none: they are asked"
    )
    ticket_keys: FilePath = derived(
        _ticket_keys, "ticket-keys.json in places.state", "file with the public keys of your product's tickets (RFC 7517)"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugins:
    """Which code of strangers is loaded. It runs in our process and is trusted."""

    enabled: tuple[Distribution, ...] = setting((), "distributions whose plugins are loaded besides ours")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sync:
    """How connections are kept up to date."""

    tick: Seconds = setting(0.2, "how often the schedule looks for connections that are due")
    interval: Seconds = setting(300.0, "how often a connection is synced")
    lease: Seconds = setting(
        60.0, "how long a run holds its connection, or a daemon a webhook or a sink, without a sign of life before another may take it"
    )
    heartbeat: Seconds = setting(15.0, "how often a run renews its lease; less than half of it, so that one may be missed")
    run_limit: Seconds = setting(600.0, "longest run; a longer sync goes on in a later one, behind the others")
    batch: Batch = setting(500, "events per commit; the outbox takes 500 at most")
    workers: Count = setting(8, "syncs that run at once")
    first_fetch_days: Days = setting(90, "how far back a first fetch goes; 0 means everything there is")


@dataclass(frozen=True, slots=True, kw_only=True)
class Http:
    """The session with which connectors call their providers."""

    connect_timeout: Seconds = setting(10.0, "time to reach a provider")
    read_timeout: Seconds = setting(30.0, "longest silence of a provider within an answer")
    response_limit: Bytes = setting(32 * MIB, "largest answer that is read, unpacked")


@dataclass(frozen=True, slots=True, kw_only=True)
class OAuth:
    """Connecting a provider."""

    flow_ttl: Seconds = setting(600.0, "time that a person has to sign in at the provider")
    link_ttl: Seconds = setting(900.0, "how long a connect link may wait to be opened")
    return_to: tuple[Page, ...] = setting((), "pages of your product that a connect page may lead back to; compared letter by letter")
    rate: Count = setting(10, "sign-ins a minute that may be begun, and that may come back, from one address")


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """The disk that the database is on."""

    least_free: Bytes = setting(512 * MIB, "below this nothing new is taken in: webhooks are answered 503, and syncs wait")


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long is kept what is no longer needed. The newest event of each thing that is not gone stays as long as its connection."""

    read: Seconds = setting(14 * DAY, "how long an event is kept once every consumer has read it")
    unread: Seconds = setting(30 * DAY, "how long an event waits for a consumer that does not read it; nobody is waited for any longer")
    tombstones: Seconds = setting(90 * DAY, "how long the word that something is gone is kept")
    size: Bytes = setting(
        8 * 1024 * MIB, "bytes of events for which there is room; beyond it the oldest go, whoever has still to read them"
    )
    deliveries: Seconds = setting(7 * DAY, "how long the body of a webhook can be looked at, and replayed, once it has become events")
    delivery_ids: Seconds = setting(35 * DAY, "how long a webhook that comes again is known for what it is")
    runs: Count = setting(50, "syncs of one connection that are remembered")
    uses: Seconds = setting(90 * DAY, "how long it is remembered how often a credential was used")
    actions: Seconds = setting(7 * DAY, "how long the result of an action can be looked up, and its key is not done again")


@dataclass(frozen=True, slots=True, kw_only=True)
class Imports:
    """Files that people hand in, such as an export of the Health app."""

    largest: Bytes = setting(16 * 1024 * MIB, "largest file")
    ticket_ttl: Seconds = setting(86_400.0, "how long a link to hand a file in waits for it")
    keep: Literal["nothing", "files"] = setting("nothing", "what is kept once a file was imported: nothing, or the files")


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """Copies of the database: `oo backup` makes one, a timer does so every hour."""

    folder: FilePath = derived(_backups, "backups in places.state", "where backups are kept; another disk survives this one")
    keep: Count = setting(48, "how many are kept; the oldest go first")


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """What the daemon says about its work; never a token, a body or a person's data."""

    level: Literal["debug", "info", "warning", "error"] = setting("info", "least important lines that are still written")
    format: Literal["auto", "json", "console"] = setting("auto", "auto writes for people at a terminal and JSON elsewhere")


@dataclass(frozen=True, slots=True, kw_only=True)
class Traces:
    """What belongs together and how long it took, for a collector of OpenTelemetry's; needs oo-integrations[traces]."""

    endpoint: Collector = setting(
        "", "where they are sent by OTLP over HTTP, such as http://127.0.0.1:4318/v1/traces; empty: none are made"
    )
    percent: Percent = setting(100, "how many in a hundred are made; one that a caller of the API began is made where the caller makes it")


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a value came from."""

    kind: Literal["default", "file", "variable"]
    name: str = ""  #: the file's path or the variable's name

    def __str__(self) -> str:
        return self.name or self.kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings, checked: what `load` gives and nobody changes."""

    places: Places
    vault: Vault
    public: Public
    private: Private
    identity: Identity
    plugins: Plugins
    sync: Sync
    http: Http
    oauth: OAuth
    disk: Disk
    retention: Retention
    imports: Imports
    backup: Backup
    log: Log
    traces: Traces
    #: Each connector's own table by connector id, unread: its shape is the connector's. Values from variables are texts.
    connectors: Mapping[str, Mapping[str, Any]] = field(repr=False)  # a connector's setting may be a secret
    #: Each sink's own table by sink id, in the same way. A sink runs where its table stands, be it an empty one.
    sinks: Mapping[str, Mapping[str, Any]] = field(repr=False)
    #: Each key source's own table by its id, in the same way.
    key_sources: Mapping[str, Mapping[str, Any]] = field(repr=False)
    origins: Mapping[str, Origin] = field(repr=False, compare=False)  #: by section.key, and connectors.id.key or sinks.id.key where set

    def origin(self, section: str, key: str) -> Origin:
        """Say where the value of a setting came from; for a connector's or sink's the key is `id.key`."""
        return self.origins[f"{section}.{key}"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """What must hold between settings that are each right by themselves."""

    between: tuple[str, ...]
    holds: Callable[[Settings], bool]
    sentence: str
    remedy: str


#: Seconds for which a webhook may come again: the longest span of a provider that is known is 75 hours.
LONGEST_REDELIVERY = 4 * DAY

#: The longest path that fits sockaddr_un.sun_path with its closing NUL (unix(7)), in bytes.
SOCKET_PATH_LIMIT = 107

RELATIONS = (
    Relation(
        between=("places.socket",),
        holds=lambda it: len(os.fsencode(it.places.socket)) <= SOCKET_PATH_LIMIT,
        sentence=f"The kernel takes at most {SOCKET_PATH_LIMIT} bytes as the path of a Unix socket.",
        remedy="Set places.socket to a shorter path.",
    ),
    Relation(
        between=("places.database", "places.socket", "vault.key_file"),
        holds=lambda it: len({it.places.database, it.places.socket, it.vault.key_file}) == 3,
        sentence="The database, the socket and the key file must be three different files.",
        remedy="Set places.database, places.socket and vault.key_file to different paths.",
    ),
    Relation(
        between=("vault.keys_from",),
        holds=lambda it: it.vault.keys_from in {"file", "environment", *it.key_sources},
        sentence="The key source that vault.keys_from names has no table.",
        remedy="Write [key_sources.<id>] with its settings, or set vault.keys_from to file.",
    ),
    Relation(
        between=("public.url", "public.host"),
        holds=lambda it: it.public.url.startswith("https://") or is_loopback(it.public.url),
        sentence="Plain http would send sign-ins readable over the network; public.url may use it on loopback only.",
        remedy="Set public.url to the https:// address of the TLS proxy.",
    ),
    Relation(
        between=("private.port", "public.port"),
        holds=lambda it: it.private.port == 0 or it.private.port != it.public.port,
        sentence="The public and the private listener cannot share one port.",
        remedy="Set private.port to another port than public.port.",
    ),
    Relation(
        between=("identity.audience", "identity.issuer"),
        holds=lambda it: it.identity.issuer != "" or it.identity.audience == "",
        sentence="Without an issuer nobody vouches for callers.",
        remedy="Set identity.issuer, or leave out identity.audience.",
    ),
    Relation(
        between=("identity.client_id", "identity.issuer"),
        holds=lambda it: it.identity.issuer != "" or it.identity.client_id == "",
        sentence="Without an issuer nobody can sign in there.",
        remedy="Set identity.issuer, or leave out identity.client_id.",
    ),
    Relation(
        between=("identity.audience", "identity.client_id"),
        holds=lambda it: it.identity.client_id == "" or it.identity.audience != it.identity.client_id,
        sentence="What says who has signed in would be taken for a token of the API.",
        remedy="Set identity.audience to a name of the API's own, such as its address.",
    ),
    Relation(
        between=("identity.connect", "identity.client_id"),
        holds=lambda it: "sign_in" not in it.identity.connect or it.identity.client_id != "",
        sentence="Nobody can sign in to connect an account without a client at the issuer.",
        remedy="Set identity.client_id, or leave sign_in out of identity.connect.",
    ),
    Relation(
        between=("identity.scopes",),
        holds=lambda it: "openid" in it.identity.scopes,
        sentence="Without the scope openid the issuer does not say who has signed in.",
        remedy="Add openid to identity.scopes.",
    ),
    Relation(
        between=("identity.algorithms",),
        holds=lambda it: len(it.identity.algorithms) > 0,
        sentence="Without an algorithm no signature can be checked.",
        remedy="Name the one with which the issuer signs, such as RS256.",
    ),
    Relation(
        between=("public.max_connections_per_address", "public.max_connections"),
        holds=lambda it: it.public.max_connections_per_address <= it.public.max_connections,
        sentence="One address may not have more open sockets than there are in all.",
        remedy="Set public.max_connections_per_address to at most public.max_connections.",
    ),
    Relation(
        between=("sync.heartbeat", "sync.lease"),
        holds=lambda it: it.sync.heartbeat < it.sync.lease / 2,
        sentence="A run that misses one heartbeat would lose its lease.",
        remedy="Set sync.heartbeat to less than half of sync.lease.",
    ),
    Relation(
        between=("sync.tick", "sync.interval"),
        holds=lambda it: it.sync.tick <= it.sync.interval,
        sentence="The schedule would look less often than connections are due.",
        remedy="Set sync.tick to at most sync.interval.",
    ),
    Relation(
        between=("retention.read", "retention.unread", "retention.tombstones"),
        holds=lambda it: it.retention.read <= it.retention.unread <= it.retention.tombstones,
        sentence="What is still to be read must be kept at least as long as what was read, and the word that something is gone longest.",
        remedy="Set retention.read, retention.unread and retention.tombstones to durations of which none is shorter than the one before.",
    ),
    Relation(
        between=("retention.deliveries", "retention.delivery_ids"),
        holds=lambda it: it.retention.delivery_ids >= max(LONGEST_REDELIVERY, it.retention.deliveries),
        sentence="Providers send a webhook again for up to three days, and it would be taken for a new one.",
        remedy="Set retention.delivery_ids to at least 4 d, and not below retention.deliveries.",
    ),
    Relation(
        between=("http.connect_timeout", "http.read_timeout", "sync.run_limit"),
        holds=lambda it: it.http.connect_timeout + it.http.read_timeout < it.sync.run_limit,
        sentence="One call to a provider could outlast a whole run.",
        remedy="Set http.connect_timeout and http.read_timeout to less than sync.run_limit together.",
    ),
)
