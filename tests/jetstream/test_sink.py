"""The NATS sink on a real server: what is in the stream, what is refused, and what becomes of what the server loses."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any

import msgspec
import nats
import pytest
from broker import Broker, broker
from cloudevents.core.bindings.http import HTTPMessage, from_http
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from daemon.virtual import Notes
from jetstream.reading import everything, once
from nats.js.api import StreamConfig
from oo_nats.sink import Nats
from sinks.test_http import Now, Receiver, event

from oo_sdk import NormalizedEvent, Outlet, RetryLater, Unreadable
from oo_sdk.vocabulary import Document

OUTLET = Outlet(name="nats", http=Receiver(), clock=Now(), log=Notes())
KEY = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def server() -> Iterator[Broker]:
    """A server that syncs each message."""
    with broker() as made:
        yield made


async def opened(server: Broker, folder: Path, **settings: Any) -> Nats:
    """A sink that is ready, and makes its stream."""
    key = folder / "key"
    key.write_text(KEY + "\n")
    sink = Nats()
    given = {"subject_key_file": str(key), "servers": [server.url], "create": True, **settings}
    sink.settings = msgspec.convert(given, Nats.Settings)
    await sink.open(OUTLET)
    return sink


def about(user: str, number: int, subject: str = "n") -> NormalizedEvent:
    """An event of somebody."""
    made = event(number)
    made.user, made.subject = user, subject
    return made


async def test_what_is_in_the_stream(server: Broker, tmp_path: Path) -> None:
    """Headers that the library of CloudEvents reads, a body of protobuf, the id that the server knows again, and no user in the subject."""
    sink = await opened(server, tmp_path)
    given = [about("ada@example.org", 1), about("ada@example.org", 2), about("eve", 3), about("", 4)]
    assert (await sink.deliver(given)).events == 4
    found = await everything(server.url)
    assert [read.event for read in found] == given
    ada = blake2b(b"ada@example.org", key=KEY.encode(), digest_size=16).hexdigest()
    assert [read.subject for read in found[:2]] == [f"oo.{ada}.acme.acme.note"] * 2
    assert found[2].subject != found[1].subject
    assert found[3].subject == "oo.-.acme.acme.note"
    headers, body = dict(found[0].message.headers or {}), found[0].message.data
    assert headers["Nats-Msg-Id"] == given[0].id
    assert Document.FromString(body).title == "Café \N{SNOWMAN}"
    theirs = from_http(HTTPMessage(headers, body), JSONFormat(), CloudEvent)
    assert (theirs.get_id(), theirs.get_type(), theirs.get_extension("user")) == (given[0].id, "acme.note", "ada@example.org")
    await sink.close()


@pytest.mark.rows("B20")
async def test_published_again_it_is_known(server: Broker, tmp_path: Path) -> None:
    """What was published and not noted down comes again, and stands in the stream once; what is new stands behind it, in order."""
    sink = await opened(server, tmp_path)
    await sink.deliver([event(number) for number in range(5)])
    await sink.close()
    sink = await opened(server, tmp_path)
    for start in (0, 3, 6):
        taken = await sink.deliver([event(number) for number in range(start, start + 8)])
        assert taken.events == 8
    assert [read.id for read in await everything(server.url)] == [event(number).id for number in range(14)]
    await sink.close()


@pytest.mark.rows("B20")
@pytest.mark.parametrize("shared", [False, True])
async def test_one_that_is_refused_lets_none_overtake_it(server: Broker, tmp_path: Path, shared: bool) -> None:
    """Of what is on its way at once, nothing of one subject gets before one that failed; others' messages between disturb nothing."""
    client = await nats.connect(server.url)
    stream = client.jetstream()
    await stream.add_stream(StreamConfig(name="oo", subjects=["oo.>", "others"] if shared else ["oo.>"], max_msg_size=4000))
    sink = await opened(server, tmp_path)
    await sink.deliver([event(1)])
    if shared:
        await stream.publish("others", b"")
    big = about("ada", 3)
    big.payload.Pack(Document(title="x" * 5000))
    batch = [about("ada", 2), big, about("ada", 4), about("eve", 5)]
    assert (await sink.deliver(batch)).events == 1
    with pytest.raises(Unreadable, match="larger than the stream takes"):
        await sink.deliver(batch[1:])
    await sink.deliver(batch[2:])
    await sink.deliver([about("ada", 6)])
    reader = await stream.pull_subscribe("oo.>", stream="oo")
    got = [(message.headers or {})["ce-id"] for message in await reader.fetch(9, timeout=1)]
    assert [id_ for id_ in dict.fromkeys(got) if id_ != event(5).id] == [event(number).id for number in (1, 2, 4, 6)]
    await client.close()
    await sink.close()


async def test_larger_than_the_server_takes(server: Broker, tmp_path: Path) -> None:
    """It is said of the event alone; what lies before it is taken."""
    sink = await opened(server, tmp_path)
    big = event(2)
    big.payload.Pack(Document(title="x" * 1_048_000))
    assert (await sink.deliver([event(1), big, event(3)])).events == 1
    with pytest.raises(Unreadable, match="larger than the 1048576 bytes"):
        await sink.deliver([big, event(3)])
    await sink.close()


@pytest.mark.rows("B20")
async def test_whether_it_still_has_it(server: Broker, tmp_path: Path) -> None:
    """After the server lost its end, or the stream was made anew, what was taken is known to be gone; what was before is there."""
    sink = await opened(server, tmp_path)
    first = await sink.deliver([event(1)])
    server.end(signal.SIGTERM)
    kept = server.keep()
    server.start()
    await sink.close()
    sink = await opened(server, tmp_path)
    second = await sink.deliver([event(2)])
    assert [await sink.has(each.found_at) for each in (first, second)] == [True, True]
    server.end()
    server.put_back(kept)
    server.start()
    with pytest.raises(RetryLater):
        await sink.deliver([event(3)])
    await sink.close()
    sink = await opened(server, tmp_path)
    assert [await sink.has(each.found_at) for each in (first, second)] == [True, False]
    third = await sink.deliver([event(3)])  # at the place that the second had
    assert [await sink.has(each.found_at) for each in (second, third)] == [False, True]
    assert sink._server is not None
    await sink._server.stream.purge_stream("oo")
    assert await sink.has(third.found_at)  # emptied on purpose
    await sink._server.stream.delete_stream("oo")
    await sink.close()
    sink = await opened(server, tmp_path)
    await sink.deliver([event(number) for number in range(5)])
    assert not await sink.has(third.found_at)
    await sink.close()


@pytest.mark.rows("B20")
@pytest.mark.parametrize("shared", [False, True])
async def test_a_stream_that_went_back_is_noticed(server: Broker, tmp_path: Path, shared: bool) -> None:
    """A server that answers as before but has lost its end is not given what comes next before what it lost."""
    sink = await opened(server, tmp_path)
    assert sink._server is not None
    if shared:
        await sink._server.stream.update_stream(StreamConfig(name="oo", subjects=["oo.>", "others"]))
        await sink.close()
        sink = await opened(server, tmp_path)
    await sink.deliver([event(1), event(2)])
    await sink.deliver([event(3)])
    assert sink._server is not None
    sink._server.last += 1  # as if it had acknowledged one more
    with pytest.raises(RetryLater, match="has lost" if shared else "does not end where it did"):
        await sink.deliver([event(4)])
    await sink.close()


@pytest.mark.rows("B22")
async def test_a_server_that_is_not_there(server: Broker, tmp_path: Path) -> None:
    """Whenever it goes, the sink only waits, and says so; when it is back the sink goes on."""
    sink = await opened(server, tmp_path)
    await sink.deliver([event(1)])
    server.end()
    for _ in range(2):
        with pytest.raises(RetryLater):
            await sink.deliver([event(2)])
    with pytest.raises(RetryLater):
        await sink.has("x 1 y")
    await sink.close()
    with pytest.raises(RetryLater, match="no server can be reached"):
        await opened(server, tmp_path)
    server.start()
    sink = await opened(server, tmp_path, servers=["nats://127.0.0.1:1", server.url])
    await sink.deliver([event(2)])
    assert len(await everything(server.url)) == 2
    await sink.close()


@pytest.mark.rows("B21")
async def test_it_is_said_what_could_lose_events(server: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing to say of a server that syncs each message; else what is wrong and what to do, also where it cannot be known."""

    async def says(of: Broker, **settings: Any) -> str:
        sink = await opened(of, tmp_path, **settings)
        await sink.close()
        return "; ".join(sink.warnings)

    assert await says(server, monitoring=server.monitoring) == ""
    assert "it cannot be known whether the server syncs each message: set monitoring" in await says(server)
    assert "cannot be asked" in await says(server, monitoring="http://127.0.0.1:1")
    monkeypatch.setattr("oo_nats.server.SOUND", (99, 0, 0))
    assert "only from 2.10.23 on" in await says(server, monitoring=server.monitoring)
    monkeypatch.setattr("oo_nats.server.ENOUGH", 1)
    monkeypatch.setattr("oo_nats.server.SOUND", (2, 10, 23))
    assert await says(server) == ""  # replicas do without
    monkeypatch.undo()
    with broker(sync="2m") as lazy:
        assert "does not sync each message, so that a power cut loses some" in await says(lazy, monitoring=lazy.monitoring)
        client = await nats.connect(lazy.url)
        await client.jetstream().add_stream(StreamConfig(name="m", subjects=["m.>"], storage="memory"))  # type: ignore[arg-type]  # as they write it
        await client.close()
        assert "kept in memory only" in await says(lazy, stream="m", prefix="m")
    monkeypatch.setattr("oo_nats.server.LOOPBACK", frozenset())
    assert "unencrypted: write its address as tls://" in await says(server)


@pytest.mark.parametrize(
    ("made", "settings", "says"),
    [
        (None, {"create": False}, "there is no stream oo: make it, with the subjects oo.>, or set create = true"),
        ({"subjects": ["else.*"]}, {}, "does not take oo.>"),
        ({"subjects": ["oo.>"], "no_ack": True}, {}, "acknowledges nothing"),
        (None, {"subject_key_file": "/nowhere"}, "subject_key_file cannot be read"),
        (None, {"credentials_file": "/nowhere"}, "credentials_file cannot be read"),
        (None, {"servers": ["tls://127.0.0.1"], "ca_file": "/nowhere"}, "ca_file, certificate_file"),
    ],
)
async def test_what_does_not_fit_is_said(
    server: Broker, tmp_path: Path, made: dict[str, Any] | None, settings: dict[str, Any], says: str
) -> None:
    """A stream that is missing or would not do, and files that are not there: what to do about it."""
    if made is not None:
        client = await nats.connect(server.url)
        await client.jetstream().add_stream(StreamConfig(name="oo", **made))
        await client.close()
    with pytest.raises(RetryLater) as told:
        await opened(server, tmp_path, **settings)
    assert says in str(told.value)


async def test_a_short_key(server: Broker, tmp_path: Path) -> None:
    """A key that could be guessed is none."""
    short = tmp_path / "short"
    short.write_text("secret")
    with pytest.raises(RetryLater, match="16 to 64 bytes"):
        await opened(server, tmp_path, subject_key_file=str(short))


async def test_a_stream_that_listens_to_more(server: Broker, tmp_path: Path) -> None:
    """A stream for everything, and one by tokens, take ours, too."""
    client = await nats.connect(server.url)
    await client.jetstream().add_stream(StreamConfig(name="tokens", subjects=["a.*.>"]))
    sink = await opened(server, tmp_path, stream="tokens", prefix="a.b")
    await sink.deliver([event(number) for number in range(3)])
    await sink.deliver([event(number) for number in range(3, 6)])
    assert len(once(await everything(server.url, "tokens"))) == 6
    await client.close()
    await sink.close()


@pytest.mark.parametrize("how", ["login", "token", "tls"])
async def test_signed_in_and_encrypted(tmp_path: Path, how: str) -> None:
    """Passwords and tokens come from files, and never go to a server that does not encrypt where its address says that it does."""
    import trustme

    secret_file = tmp_path / "secret"
    secret_file.write_text("s3cret-word\n")
    settings: dict[str, Any] = {"token_file": str(secret_file)}
    more = "authorization { token: s3cret-word }"
    if how == "login":
        settings = {"login": "oo", "password_file": str(secret_file)}
        more = "authorization { user: oo, password: s3cret-word }"
    if how == "tls":
        authority = trustme.CA()
        ours = authority.issue_cert("127.0.0.1")
        ours.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        more += f'\ntls {{ cert_file: "{tmp_path}/server.pem", key_file: "{tmp_path}/server.pem" }}'
        settings |= {"ca_file": str(tmp_path / "ca.pem")}
    with broker(more) as server:
        server.scheme = "tls" if how == "tls" else "nats"
        sink = await opened(server, tmp_path, **settings)
        assert (await sink.deliver([event(1)])).events == 1
        await sink.close()
        secret_file.write_text("another")
        with pytest.raises(RetryLater, match="no server can be reached") as told:
            await opened(server, tmp_path, **settings)
        assert "another" not in str(told.value)
        if how != "tls":
            with pytest.raises(RetryLater, match="does not encrypt"):
                await opened(server, tmp_path, **settings, servers=[f"tls://127.0.0.1:{server.port}"])


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"servers": ["http://x"]}, "nats:// or tls://"),
        ({"servers": ["nats://a:b@x"]}, "hold no password"),
        ({"servers": []}, "nats:// or tls://"),
        ({"stream": "a.b"}, "stream is a word"),
        ({"prefix": "a..b"}, "prefix such words"),
        ({"login": "oo"}, "password_file"),
        ({"certificate_file": "/x"}, "certificate_key_file"),
        ({"token_file": "/x", "credentials_file": "/y"}, "one of login"),
        ({"monitoring": "localhost:8222"}, "monitoring must begin"),
        ({"replicas": 9}, "replicas"),
    ],
)
def test_settings_that_could_not_work(settings: dict[str, Any], says: str) -> None:
    """They are refused before anything runs."""
    with pytest.raises(msgspec.ValidationError, match=says):
        msgspec.convert({"subject_key_file": "/x", **settings}, Nats.Settings)


async def test_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without nats-py it waits, and says what to install."""
    import sys

    monkeypatch.setitem(sys.modules, "oo_nats.server", None)
    sink = Nats()
    sink.settings = msgspec.convert({"subject_key_file": "/x"}, Nats.Settings)
    with pytest.raises(RetryLater, match=r"pip install oo-integrations\[nats\]"):
        await sink.open(OUTLET)
    await sink.close()
    await asyncio.sleep(0)
