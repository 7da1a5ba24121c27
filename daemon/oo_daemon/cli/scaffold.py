"""The scaffold: what a new connector's package begins as. Pure: a name and a kind become files."""

from __future__ import annotations

from collections.abc import Mapping
from string import Template
from typing import Final, Literal

Kind = Literal["oauth", "api-key", "webhook", "import"]

_PYPROJECT: Final = """\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"
"""
_SETUP: Final = """\
[metadata]
name = $distribution
version = 0.1.0
description = $title, as a connector of oO.
long_description = file: README.md
long_description_content_type = text/markdown

[options]
python_requires = >=3.11
packages = $module
install_requires = oo-integrations >=$sdk

[options.extras_require]
test = pytest

[options.package_data]
$module = py.typed

[options.entry_points]
oo.plugins =
    $id = $module
"""
_README: Final = """\
# $title

A connector of oO.

```console
$$ pip install -e '.[test]' && pytest
```

The operator installs it beside the daemon, writes `$distribution` into `plugins.enabled`, and restarts; `oo plugins` shows it.

## Before others use it

- [ ] The contract test is green on answers that the provider really gave.
- [ ] Each scope has a sentence that your neighbour understands, and none is asked for that is not needed.
- [ ] What a status means only at this provider stands in `errors` or `explain`.
- [ ] `limits` says what the provider allows, with the page that says so.
- [ ] Things that are gone are told: by the provider's change feed, or by a `Listing`.
- [ ] `revoke` says what remains, and `manual_revocation` where a person removes it.
- [ ] Nothing personal is logged.
"""
_CI: Final = """\
name: test
on: [push, pull_request]
jobs:
  test:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-python@v5
        with:
          python-version: "3.11"
      - run: pip install -e '.[test]'
      - run: pytest
"""
_HOOK: Final = """

@hookimpl
def oo_connectors() -> list[Connector]:
    return [$name()]
"""
#: What the first two kinds share: a feed of changes, read from where it was left.
_FEED: Final = """\
    async def fetch_signals(self, ctx: Context, since: Cursor | None) -> AsyncIterator[Signal]:
        cursor = since["cursor"] if since else None
        while True:
            page = await ctx.http.get(f"{API}/changes", params={"cursor": cursor}, into=Page)
            for note in page.changes:
                yield event(note)
            cursor = page.cursor
            yield Checkpoint({"cursor": cursor})
            if not page.more:
                return


def event(note: Note) -> Event:
    if note.deleted:
        return Event("note", note.id, Change.DELETED)
    return Event("note", note.id, Change.UPSERTED, payload=Document(title=note.title))
"""
_OAUTH: Final = '''\
"""$title: notes as they change, from a change feed. Put your provider in the place of these."""

from __future__ import annotations

from collections.abc import AsyncIterator

from oo_sdk import Change, Checkpoint, Connector, Context, Cursor, CursorExpired, Event, OAuth2, Scope, Signal, Stored, Struct, hookimpl
from oo_sdk.vocabulary import Document

API = "https://api.$host/v1"


class Note(Struct):
    id: str
    title: str
    deleted: bool = False


class Page(Struct):
    changes: list[Note]
    cursor: str
    more: bool


class $name(Connector):
    id = "$id"
    title = "$title"
    auth = OAuth2(
        authorize="https://$host/oauth/authorize",
        token="https://$host/oauth/token",
        revoke="https://$host/oauth/revoke",
    )
    scopes = (Scope("notes.read", "See your notes and when you change them."),)
    stores = (Stored("note", "the titles of your notes", "show them where you look for them", ("title",)),)
    hosts = ("api.$host", "$host")
    errors = {410: CursorExpired}

'''
_OAUTH_TEST: Final = '''\
from $module import $name
from oo_sdk import Response
from oo_sdk.testing import ConnectorContract, Provider, Request, Routes, json_answer


def changes(request: Request) -> Response:
    """Two pages: a note that stays, and one that comes and goes."""
    first = {"changes": [{"id": "1", "title": "Milk"}, {"id": "2", "title": "Bread"}], "cursor": "a", "more": True}
    second = {"changes": [{"id": "2", "title": "", "deleted": True}], "cursor": "b", "more": False}
    nothing = {"changes": [], "cursor": "b", "more": False}
    return json_answer({"": first, "a": second, "b": nothing}[request.query.get("cursor", "")])


class Test$name(ConnectorContract):
    connector = $name

    def provider(self) -> Provider:
        return Routes({"GET /v1/changes": changes})
'''
_KEY: Final = '''\
"""$title: notes as they change, from a change feed, read with a key. Put your provider in the place of these."""

from __future__ import annotations

from collections.abc import AsyncIterator

from oo_sdk import (
    ApiKey,
    Change,
    Checkpoint,
    Connector,
    Context,
    Cursor,
    CursorExpired,
    Event,
    InHeader,
    KeyField,
    KeyFlow,
    Scope,
    Signal,
    Stored,
    StoredCredential,
    Struct,
    hookimpl,
)
from oo_sdk.vocabulary import Document

API = "https://api.$host/v1"


class Note(Struct):
    id: str
    title: str
    deleted: bool = False


class Page(Struct):
    changes: list[Note]
    cursor: str
    more: bool


class Me(Struct):
    id: str
    email: str


class $name(Connector):
    id = "$id"
    title = "$title"
    auth = ApiKey(
        fields=[KeyField("key", "API key", "In $title, under Settings, API keys. A key that can only read is enough.")],
        sent=InHeader("X-Api-Key", "{key}"),
    )
    scopes = (Scope("notes.read", "See your notes and when you change them."),)
    stores = (Stored("note", "the titles of your notes", "show them where you look for them", ("title",)),)
    hosts = ("api.$host",)
    errors = {410: CursorExpired}
    manual_revocation = "https://$host/settings/keys"

    async def accept_key(self, flow: KeyFlow) -> StoredCredential:
        me = await flow.http.get(f"{API}/me", into=Me)
        return flow.stored().of(me.id, label=me.email)

'''
_KEY_TEST: Final = '''\
from $module import $name
from oo_sdk import Response
from oo_sdk.testing import ConnectorContract, Provider, Request, Routes, json_answer


def me(request: Request) -> Response:
    """Whose key it is."""
    return json_answer({"id": "7", "email": "ada@$host"} if "x-api-key" in request.headers else {}, 200)


def changes(request: Request) -> Response:
    """Two pages: a note that stays, and one that comes and goes."""
    first = {"changes": [{"id": "1", "title": "Milk"}, {"id": "2", "title": "Bread"}], "cursor": "a", "more": True}
    second = {"changes": [{"id": "2", "title": "", "deleted": True}], "cursor": "b", "more": False}
    nothing = {"changes": [], "cursor": "b", "more": False}
    return json_answer({"": first, "a": second, "b": nothing}[request.query.get("cursor", "")])


class Test$name(ConnectorContract):
    connector = $name

    def provider(self) -> Provider:
        return Routes({"GET /v1/me": me, "GET /v1/changes": changes})
'''
_WEBHOOK: Final = '''\
"""$title: messages as they are pushed. Put your provider in the place of these."""

from __future__ import annotations

from collections.abc import Sequence

from oo_sdk import Change, Connector, ConnectorBug, Delivery, Event, HmacScheme, News, Stored, Struct, Unreadable, decode, hookimpl
from oo_sdk.vocabulary import Document


class Message(Struct):
    id: str
    text: str


class $name(Connector):
    id = "$id"
    title = "$title"
    webhooks = HmacScheme(header="X-Signature", prefix="sha256=", id_header="X-Delivery")
    stores = (Stored("message", "your messages", "show them where you look for them", ("title",)),)

    async def route(self, delivery: Delivery) -> Sequence[str]:
        raise ConnectorBug("each address belongs to one connection")

    async def read(self, delivery: Delivery) -> Sequence[News]:
        try:
            message = decode(delivery.body, Message)
        except ConnectorBug as wrong:
            raise Unreadable(f"this is no message: {wrong}") from None
        return [Event("message", message.id, Change.OCCURRED, payload=Document(title=message.text))]
'''
_WEBHOOK_TEST: Final = """\
from datetime import UTC, datetime

from $module import $name
from oo_sdk import Delivery
from oo_sdk.testing import ConnectorContract

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Test$name(ConnectorContract):
    connector = $name
    deliveries = (
        Delivery(id="1", headers={}, body=b'{"id": "1", "text": "hello"}', received_at=NOW),
        Delivery(id="2", headers={}, body=b'{"id": "2", "text": "good bye"}', received_at=NOW),
    )
"""
_IMPORT: Final = '''\
"""$title: the lines of a file, each with an id and a text. Put your format in the place of this."""

from __future__ import annotations

from collections.abc import Iterator

from oo_sdk import Change, Checkpoint, Connector, Cursor, Event, Stored, Told, Unreadable, Upload, hookimpl
from oo_sdk.vocabulary import Document

#: Lines from one checkpoint to the next.
STRIDE = 100


class $name(Connector):
    id = "$id"
    title = "$title"
    takes = (".tsv",)
    stores = (Stored("line", "the lines of your file", "show them where you look for them", ("title",)),)

    def parse(self, upload: Upload, since: Cursor | None) -> Iterator[Told]:
        with upload.open() as file:
            file.seek(since["offset"] if since else 0)
            for number, line in enumerate(iter(file.readline, b""), start=1):
                id_, tab, text = line.rstrip(b"\\r\\n").partition(b"\\t")
                if not tab:
                    raise Unreadable("A line of this file has no tab: export it again as TSV.")
                yield Event("line", id_.decode(), Change.OCCURRED, payload=Document(title=text.decode(errors="replace")))
                if number % STRIDE == 0:
                    yield Checkpoint({"offset": file.tell()})
            yield Checkpoint({"offset": file.tell()})
'''
_IMPORT_TEST: Final = """\
import io

from $module import $name
from oo_sdk import Upload
from oo_sdk.testing import ConnectorContract

LINES = b"".join(b"%d\\tLine %d\\n" % (number, number) for number in range(250))


class Test$name(ConnectorContract):
    connector = $name
    uploads = (Upload(name="lines.tsv", size=len(LINES), open=lambda: io.BytesIO(LINES)),)
"""
_KINDS: Final[Mapping[str, tuple[str, str]]] = {
    "oauth": (_OAUTH + _FEED, _OAUTH_TEST),
    "api-key": (_KEY + _FEED, _KEY_TEST),
    "webhook": (_WEBHOOK, _WEBHOOK_TEST),
    "import": (_IMPORT, _IMPORT_TEST),
}


def files(id_: str, kind: Kind, *, title: str, sdk: str) -> Mapping[str, str]:
    """Give the files of a package by their paths in it; `sdk` is the version that it is written for."""
    name = "".join(part.capitalize() for part in id_.split("_"))
    words = {
        "id": id_,
        "title": title,
        "name": name,
        "module": f"{id_}_oo",
        "distribution": f"{id_.replace('_', '-')}-oo",
        "host": f"{id_.replace('_', '-')}.example",
        "sdk": sdk,
    }
    code, test = _KINDS[kind]
    sources = {
        "pyproject.toml": _PYPROJECT,
        "setup.cfg": _SETUP,
        "README.md": _README,
        ".github/workflows/test.yml": _CI,
        f"{words['module']}/__init__.py": code + _HOOK,
        f"{words['module']}/py.typed": "",
        "tests/test_contract.py": test,
    }
    return {path: Template(source).substitute(words) for path, source in sources.items()}
