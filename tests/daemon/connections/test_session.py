"""The signed-in session: what it sends, where, and what never comes out of it."""

from __future__ import annotations

import asyncio
import copy
import json
import logging
import pickle
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
import trustme
from daemon.connections.world import (
    CANARIES,
    NOW,
    PATIENCE,
    REFRESH,
    SECRET,
    TOKEN,
    Acme,
    Always,
    Clock,
    Say,
    Script,
    answering,
    form_of,
    hear,
    listening,
    says,
    seen,
)

from oo_daemon.connections.session import Client, SignedSession
from oo_daemon.connections.token_endpoint import basic
from oo_daemon.connections.transport import AiohttpTransport, NoAnswer, NotSent
from oo_daemon.ports import moment
from oo_sdk import (
    ApiRetired,
    ConnectorBug,
    ConnectorError,
    CursorExpired,
    Placeholder,
    QuotaSpent,
    Response,
    RetryLater,
    Sign,
    SignInAgain,
    Struct,
    Unreadable,
    pages,
)
from oo_vault import ClientBroken, CredentialGone, Secret, SignInNeeded, TryLater

API = "https://api.acme.example"
CLIENT = Client(id="our client", secrets=[Secret(SECRET), Secret("older secret")])


@dataclass
class Signed:
    """A session, and what is around it."""

    session: SignedSession
    script: Script
    authority: Always


def signed(*answers: Say, client: Client | None = CLIENT, connector: Acme | None = None) -> Signed:
    script, authority = Script(list(answers) or [says()]), Always()
    return Signed(
        SignedSession(connector=connector or Acme(), client=client, authority=authority, transport=script, clock=Clock()), script, authority
    )


def real(connector: Acme, network: AiohttpTransport) -> SignedSession:
    return SignedSession(connector=connector, client=CLIENT, authority=Always(), transport=network, clock=Clock())


def network(limit: int = 100_000) -> AiohttpTransport:
    return AiohttpTransport(connect_timeout=PATIENCE, read_timeout=PATIENCE, response_limit=limit, user_agent="oo-test")


class At(Acme):
    """The provider on this machine."""

    def __init__(self, *places: str) -> None:
        self.hosts = places


# ---- exfiltration


TRIES: dict[str, Mapping[str, Any]] = {
    "another host": {"url": "https://evil.example/"},
    "a sub-domain of the host": {"url": "https://x.api.acme.example/"},
    "the host as a sub-domain": {"url": "https://api.acme.example.evil.example/"},
    "the host's parent": {"url": "https://acme.example/"},
    "user information": {"url": "https://api.acme.example@evil.example/"},
    "user information with a colon": {"url": "https://api.acme.example:443@evil.example/"},
    "user information on the host": {"url": "https://me:pass@api.acme.example/"},
    "an encoded @": {"url": "https://api.acme.example%40evil.example/"},
    "a backslash": {"url": "https://evil.example\\@api.acme.example/"},
    "backslashes for slashes": {"url": "https:\\\\evil.example\\api.acme.example"},
    "a homograph": {"url": "https://аpi.acme.example/"},
    "punycode": {"url": "https://xn--pi-7kc.acme.example/"},
    "full-width dots": {"url": "https://api．acme．example/"},
    "a long s": {"url": "https://api.acme.example.ſ/"},
    "a trailing dot": {"url": "https://api.acme.example./"},
    "another port": {"url": "https://api.acme.example:8443/"},
    "port zero": {"url": "https://api.acme.example:0/"},
    "plain http": {"url": "http://api.acme.example/"},
    "plain http on 443": {"url": "http://api.acme.example:443/"},
    "a web socket": {"url": "wss://api.acme.example/"},
    "a file": {"url": "file:///etc/passwd"},
    "no scheme": {"url": "//evil.example/"},
    "no host": {"url": "https:///evil.example/"},
    "a fragment": {"url": "https://evil.example#@api.acme.example/"},
    "a fragment on the host": {"url": "https://api.acme.example#.evil.example/"},
    "a query before a slash": {"url": "https://evil.example?@api.acme.example/"},
    "an address of IPv4": {"url": "https://127.0.0.1/"},
    "the metadata service": {"url": "http://169.254.169.254/latest/meta-data/"},
    "a decimal address": {"url": "https://2130706433/"},
    "an address of IPv6": {"url": "https://[::1]/"},
    "a mapped address": {"url": "https://[::ffff:127.0.0.1]/"},
    "a line in the address": {"url": "https://api.acme.example/\r\nHost: evil.example\r\n\r\n"},
    "a line feed in the host": {"url": "https://api.acme.example\n.evil.example/"},
    "a second request line": {"url": "https://api.acme.example/ HTTP/1.1\r\nX: y"},
    "a NUL": {"url": "https://api.acme.example\x00.evil.example/"},
    "a line in the method": {"url": API, "method": "GET / HTTP/1.1\r\nX:"},
    "a method with an address": {"url": API, "method": "GET https://evil.example/"},
    "a tunnel": {"url": API, "method": "CONNECT"},
    "an echo of the headers": {"url": API, "method": "TRACE"},
    "a line in a header's value": {"url": API, "headers": {"X": "y\r\nHost: evil.example"}},
    "a line in a header's name": {"url": API, "headers": {"X: y\r\nHost": "evil.example"}},
    "a bare line feed in a header": {"url": API, "headers": {"X": "y\nHost: evil.example"}},
    "another Host": {"url": API, "headers": {"Host": "evil.example"}},
    "another Host in small letters": {"url": API, "headers": {"host": "evil.example"}},
    "another Host with a blank": {"url": API, "headers": {"Host ": "evil.example"}},
    "another Authorization": {"url": API, "headers": {"AUTHORIZATION": "Bearer other"}},
    "a proxy's Authorization": {"url": API, "headers": {"Proxy-Authorization": "Basic eA=="}},
    "a smuggled body": {"url": API, "headers": {"Transfer-Encoding": "chunked"}},
    "a smuggled length": {"url": API, "headers": {"Content-Length": "0"}},
    "an upgrade": {"url": API, "headers": {"Upgrade": "h2c"}},
    "a token in a parameter": {"url": API, "params": {"t": Placeholder.ACCESS_TOKEN}},
    "a token in a list of parameters": {"url": API, "params": {"t": ["x", Placeholder.CLIENT_SECRET]}},
    "a token in a header": {"url": API, "headers": {"X": Placeholder.ACCESS_TOKEN}},
}


@pytest.mark.rows("C8")
@pytest.mark.parametrize("how", TRIES.values(), ids=TRIES)
async def test_nothing_leaves_for_elsewhere(how: Mapping[str, Any]) -> None:
    """Of all the ways to send a credential elsewhere, none sends anything, or even looks at the credential."""
    there = signed()
    with pytest.raises(ConnectorBug) as refused:
        await there.session.request(**{"method": "POST", **how})
    assert there.script.sent == []
    assert there.authority.forced == []
    assert not any(canary in seen(refused.value) for canary in CANARIES)


@pytest.mark.parametrize("way", ["params", "url", "form name", "header name"])
async def test_a_placeholder_in_the_wrong_place_is_just_a_word(way: str) -> None:
    """Written into an address or used as a name, a placeholder is the name of a thing and never the thing."""
    there = signed()
    match way:
        case "params":
            await there.session.get(API, params={"t": str(Placeholder.ACCESS_TOKEN)})
        case "url":
            await there.session.get(f"{API}/{Placeholder.ACCESS_TOKEN}")
        case "form name":
            await there.session.post(API, form={Placeholder.ACCESS_TOKEN: "x"})  # type: ignore[dict-item]  # on purpose
        case _:
            await there.session.request("GET", API, headers={f"X-{Placeholder.ACCESS_TOKEN.name}": "x"})
    (sent,) = there.script.sent
    assert TOKEN not in f"{sent.url} {sent.body!r} {list(sent.headers)}"


@pytest.mark.rows("C8")
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirect_is_followed(status: int) -> None:
    """A provider that sends the request elsewhere, to another port or by a relative address, is not followed; a bug is reported."""
    ok = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
    async with listening(answering(ok)) as elsewhere, listening(answering()) as home:
        for location in (f"{elsewhere.url}/?x=y", f"//127.0.0.1:{elsewhere.port}/", "/again"):
            home.serve = answering(f"HTTP/1.1 {status} Moved\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode())
            client = network()
            with pytest.raises(ConnectorBug, match=str(status)):
                await real(At(f"127.0.0.1:{home.port}"), client).post(f"{home.url}/", form={"token": Placeholder.ACCESS_TOKEN})
            await client.close()
        assert (home.connections, elsewhere.connections) == (3, 0)


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:{there}/",
        "http://localhost:{home}/",
        "http://127.0.0.1:{home}@127.0.0.1:{there}/",
        "http://127.0.0.1:{home}\\@127.0.0.1:{there}/",
        "http://127.0.0.1:{there}#@127.0.0.1:{home}/",
        "http://2130706433:{there}/",
        "http://127.1:{there}/",
        "http://[::ffff:127.0.0.1]:{there}/",
        "http://0.0.0.0:{there}/",
        "https://127.0.0.1:{there}/",
    ],
)
async def test_no_connection_is_even_opened(address: str) -> None:
    """On real sockets, an address that is not the declared place sees no connection at all."""
    async with listening(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")) as there, listening(there.serve) as home:
        client = network()
        with pytest.raises(ConnectorBug):
            await real(At(f"127.0.0.1:{home.port}"), client).get(address.format(there=there.port, home=home.port))
        await client.close()
        assert there.connections + home.connections == 0


@pytest.mark.rows("C8")
@pytest.mark.parametrize("named", ["localhost", "another.example"])
async def test_a_name_that_leads_elsewhere_is_noticed_by_tls(named: str) -> None:
    """Where a look-up lies, whoever is there has no certificate of that name that anybody trusts, and is sent nothing."""
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(1))

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert(named).configure_cert(context)
    liar = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    place = f"localhost:{liar.sockets[0].getsockname()[1]}"
    client = network()
    with pytest.raises(RetryLater, match="no connection"):
        await real(At(place), client).get(f"https://{place}/")
    await client.close()
    liar.close()
    await liar.wait_closed()
    assert heard == []


async def test_the_request_line_and_the_host_are_the_declared_ones() -> None:
    """On the wire there is one request, of origin form, with one Host and one Authorization, and no more than was asked for."""
    heard = b""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal heard
        heard = await hear(reader)
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")

    async with listening(serve) as home:
        client = network()
        await real(At(f"127.0.0.1:{home.port}"), client).request(
            "GET", f"{home.url}//evil.example/@x", params={"q": "a b\r\nHost: evil.example"}, headers={"accept": "text/plain", "X-One": "1"}
        )
        await client.close()
    lines = heard.decode().split("\r\n")
    assert lines[0] == "GET //evil.example/@x?q=a+b%0D%0AHost%3A+evil.example HTTP/1.1"
    names = [line.split(":")[0].lower() for line in lines[1:] if line]
    assert sorted(names) == ["accept", "accept-encoding", "authorization", "host", "user-agent", "x-one"]
    assert f"Host: 127.0.0.1:{home.port}" in lines
    assert "Accept: text/plain" in lines


async def test_hosts_are_those_of_when_the_session_was_made() -> None:
    """A connector that changes its mind about its hosts does not move a session."""
    connector = At()
    hosts = connector.hosts = ["api.acme.example"]
    there = signed(connector=connector)
    hosts.append("evil.example")
    with pytest.raises(ConnectorBug):
        await there.session.get("https://evil.example/")
    await there.session.get(API)


async def test_tokens_are_given_back_where_the_connector_says() -> None:
    """The declared revocation address need not lie on the hosts; nothing else there is open, nor is it for any other request."""
    there = signed()
    revoke = "https://acme.example/oauth/revoke"
    await there.session.post(revoke, form={"token": Placeholder.REFRESH_TOKEN}, sign=Sign.CLIENT)
    assert [request.url for request in there.script.sent] == [revoke]
    for method, url, sign in [
        ("POST", revoke, Sign.USER),
        ("POST", revoke, Sign.NOBODY),
        ("GET", revoke, Sign.CLIENT),
        ("POST", f"{revoke}/x", Sign.CLIENT),
        ("POST", f"{revoke}?x=1", Sign.CLIENT),
        ("POST", "https://acme.example/", Sign.CLIENT),
    ]:
        with pytest.raises(ConnectorBug):
            await there.session.request(method, url, sign=sign)
    assert len(there.script.sent) == 1


# ---- what never comes out


@pytest.mark.rows("C7")
async def test_nothing_on_the_session_leads_to_a_token() -> None:
    """Neither what it prints nor any attribute of a session, nor a copy of it, shows a token or our secret; it cannot be pickled."""
    session = signed().session
    await session.get(API)
    for thing in (session, copy.copy(session), copy.deepcopy(session), [session.get, session.request, session.post]):
        assert not any(canary in seen(thing) for canary in CANARIES)
    with pytest.raises(TypeError):
        vars(session)
    with pytest.raises((pickle.PicklingError, AttributeError, TypeError)):
        pickle.dumps(session)


def echo(status: int) -> Say:
    """Everything that was sent, sent back."""
    return lambda request: Response(
        status=status,
        headers={"x-echo": json.dumps(dict(request.headers)), "location": f"https://x/?t={TOKEN}"},
        body=json.dumps({"headers": dict(request.headers), "body": (request.body or b"").decode()}).encode(),
    )


ASKED: dict[str, Mapping[str, Any]] = {
    "plain": {},
    "form": {"form": {"a": Placeholder.ACCESS_TOKEN, "r": Placeholder.REFRESH_TOKEN, "s": [Placeholder.CLIENT_SECRET]}},
    "json": {"json": {"deep": [{"a": Placeholder.ACCESS_TOKEN, "r": Placeholder.REFRESH_TOKEN, "s": Placeholder.CLIENT_SECRET}]}},
    "client": {"sign": Sign.CLIENT, "form": {"token": Placeholder.REFRESH_TOKEN}},
}


@pytest.mark.rows("C7")
@pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED)
async def test_an_echo_shows_no_secret(asked: Mapping[str, Any]) -> None:
    """A provider that sends everything back shows the connector none of our secrets, as they are or as they were written."""
    response = await signed(echo(200)).session.request("POST", API, **asked)
    text = seen(response) + response.body.decode()
    assert not any(canary in text for canary in CANARIES)
    assert basic("our client", SECRET).removeprefix("Basic ") not in text
    assert "canary" not in text.replace("%2F", "/")


FAULTS: dict[str, Say] = {
    "400": echo(400),
    "401": echo(401),
    "403": echo(403),
    "404": echo(404),
    "410": echo(410),
    "429": echo(429),
    "500": echo(500),
    "302": echo(302),
    "not sent": NotSent("no connection"),
    "no answer": NoAnswer("it broke"),
    "a fault of ours": RuntimeError("oops"),
}


@pytest.mark.rows("C9")
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED)
async def test_no_error_carries_a_secret(fault: Say, asked: Mapping[str, Any]) -> None:
    """No error has a secret in its text, its attributes, its causes, or the frames that it brings."""
    with pytest.raises((ConnectorError, RuntimeError)) as raised:
        await signed(fault).session.request("POST", API, into=dict, **asked)
    assert not any(canary in seen(raised.value) for canary in CANARIES)
    assert raised.value.__context__ is None


NOT_ENCODABLE: list[Mapping[str, Any]] = [
    {"form": {"token": Placeholder.ACCESS_TOKEN, "x": "\udcff"}},
    {"json": {"token": Placeholder.ACCESS_TOKEN, "x": object()}},
    {"json": {"token": Placeholder.ACCESS_TOKEN, "x": "\udcff"}},
]


@pytest.mark.parametrize("asked", NOT_ENCODABLE, ids=["form", "json", "text"])
async def test_a_body_that_cannot_be_encoded_shows_nothing(asked: Mapping[str, Any]) -> None:
    """Where a body cannot be encoded, the encoder's own error, with what was filled in, is not passed on."""
    there = signed()
    with pytest.raises(ConnectorBug) as raised:
        await there.session.post(API, **asked)
    assert not any(canary in seen(raised.value) for canary in CANARIES)
    assert there.script.sent == []


@pytest.mark.rows("C9")
async def test_real_faults_carry_and_log_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    """Real connections that are refused, cut, garbled or given up leave no secret in errors, nor in any log at its most talkative."""
    caplog.set_level(logging.DEBUG)

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with listening(answering(b"")) as server:
        gone = server.port
        client, hasty = network(), AiohttpTransport(connect_timeout=0.05, read_timeout=0.05, response_limit=10, user_agent="oo-test")
        places = (f"127.0.0.1:{server.port}", "127.0.0.1:1")
        errors: list[BaseException] = []

        async def ask(transport: AiohttpTransport, url: str) -> None:
            try:
                async with asyncio.timeout(0.2):
                    await real(At(*places), transport).post(url, form={"t": Placeholder.REFRESH_TOKEN, "s": Placeholder.CLIENT_SECRET})
            except (ConnectorError, TimeoutError) as error:
                errors.append(error)

        for serve in (answering(b""), answering(b"nonsense\r\n\r\n"), answering(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nx"), hang):
            server.serve = serve
            await ask(client, server.url)
            await ask(hasty, server.url)
        await ask(client, f"https://127.0.0.1:{gone}/")
        await ask(client, "http://127.0.0.1:1/")
        await client.close()
        await ask(client, server.url)
        await hasty.close()
    assert len(errors) == 11
    assert {type(error) for error in errors} == {RetryLater, TimeoutError}
    for error in errors:
        assert not any(canary in seen(error) for canary in CANARIES), error
    assert not any(canary in f"{record.getMessage()} {record.exc_text} {record.args!r}" for canary in CANARIES for record in caplog.records)


async def test_no_log_of_a_good_request_holds_a_secret(caplog: pytest.LogCaptureFixture) -> None:
    """With every logger at its most talkative, a request that goes well leaves no secret in a log."""
    caplog.set_level(logging.DEBUG)
    asyncio.get_running_loop().set_debug(True)
    async with listening(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")) as home:
        client = network()
        await real(At(f"127.0.0.1:{home.port}"), client).post(home.url, json={"t": Placeholder.ACCESS_TOKEN}, into=dict)
        await client.close()
    assert not any(canary in f"{record.getMessage()} {record.args!r}" for canary in CANARIES for record in caplog.records)


# ---- what is sent


async def test_a_request_is_signed_as_the_user() -> None:
    """By default the connection's token is sent as a bearer token, and JSON is asked for."""
    there = signed(says(ok=True))
    assert await there.session.get(f"{API}/v1?a=1", params={"b": [2, "3&"], "c": None}, into=dict) == {"ok": True}
    (sent,) = there.script.sent
    assert (sent.method, sent.url, sent.body) == ("GET", f"{API}/v1?a=1&b=2&b=3%26", None)
    assert sent.headers == {"Accept": "application/json", "Authorization": f"Bearer {TOKEN}"}


async def test_a_request_is_signed_as_our_client() -> None:
    """Signed as the client it carries HTTP Basic, with the newest secret and both parts form-encoded, and looks at no grant."""
    there = signed()
    await there.session.post(API, sign=Sign.CLIENT)
    (sent,) = there.script.sent
    assert sent.headers["Authorization"] == basic("our client", SECRET)
    assert there.authority.forced == []


async def test_a_request_is_not_signed() -> None:
    """Signed by nobody, it carries nothing, and looks at no grant."""
    there = signed()
    await there.session.post(API, sign=Sign.NOBODY, json={"a": 1})
    (sent,) = there.script.sent
    assert "Authorization" not in sent.headers
    assert there.authority.forced == []


async def test_placeholders_are_filled_in_the_body() -> None:
    """In a form and at any depth of a JSON body, placeholders become what they stand for."""
    there = signed()
    await there.session.post(API, form={"a": Placeholder.ACCESS_TOKEN, "i": Placeholder.CLIENT_ID, "n": 1})
    await there.session.post(API, json={"deep": [{"r": Placeholder.REFRESH_TOKEN}, (Placeholder.CLIENT_SECRET, None, True)]})
    form, sent = there.script.sent
    assert form_of(form) == {"a": TOKEN, "i": "our client", "n": "1"}
    assert form.headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert msgspec.json.decode(sent.body or b"") == {"deep": [{"r": REFRESH}, [SECRET, None, True]]}
    assert sent.headers["Content-Type"] == "application/json"


async def test_a_placeholder_without_a_value_is_a_bug() -> None:
    """Where there is no registration, or nobody signs, what is not there cannot be filled in."""
    with pytest.raises(ConnectorBug, match="client_secret"):
        await signed(client=None).session.post(API, form={"s": Placeholder.CLIENT_SECRET})
    with pytest.raises(ConnectorBug, match="client_id"):
        await signed(client=None).session.post(API, sign=Sign.CLIENT)


async def test_a_connector_s_own_content_type_stands() -> None:
    """A connector that sends JSON of its own kind says so, in any spelling of the header's name."""
    there = signed()
    await there.session.request("PATCH", API, json={}, headers={"content-type": "application/merge-patch+json"})
    assert there.script.sent[0].headers["Content-Type"] == "application/merge-patch+json"


# ---- what answers mean


@pytest.mark.rows("C13")
async def test_a_401_renews_once_and_asks_once_more() -> None:
    """After a 401 the credential is renewed and the same request is sent once more, with its form."""
    there = signed(says(401), says(ok=1))
    await there.session.post(API, form={"a": Placeholder.ACCESS_TOKEN})
    assert there.authority.forced == [None, 1]
    assert len(there.script.sent) == 2
    assert there.script.sent[0].body == there.script.sent[1].body


async def test_a_401_that_stays_means_sign_in_again() -> None:
    """A second 401 ends it: there is no loop."""
    there = signed(says(401))
    with pytest.raises(SignInAgain):
        await there.session.get(API)
    assert len(there.script.sent) == 2


async def test_a_401_of_somebody_else_does_not_touch_the_grant() -> None:
    """Refused as the client, the operator must act; refused as nobody, the connector is wrong; the grant is not renewed for either."""
    there = signed(says(401))
    with pytest.raises(RetryLater, match="client secret"):
        await there.session.post(API, sign=Sign.CLIENT, form={"t": Placeholder.ACCESS_TOKEN})
    with pytest.raises(ConnectorBug):
        await there.session.post(API, sign=Sign.NOBODY)
    assert set(there.authority.forced) == {None}
    assert len(there.script.sent) == 3


@pytest.mark.rows("D13")
async def test_our_secrets_are_tried_in_order() -> None:
    """A request of our client that is refused goes out again with the next secret, which is then the one that counts; a user's does not."""
    there = signed(says(401), says(), says())
    await there.session.post(API, sign=Sign.CLIENT)
    await there.session.post(API, sign=Sign.CLIENT)
    first, second, third = (request.headers["Authorization"] for request in there.script.sent)
    assert first != second == third


class Special(Acme):
    """A provider with meanings of its own."""

    errors: Mapping[int, type[ConnectorError]] = {
        409: CursorExpired,
        403: RetryLater,
        404: QuotaSpent,
        405: Unreadable,
        429: SignInAgain,
    }

    def explain(self, response: Response) -> ConnectorError | None:
        return QuotaSpent(until=datetime(2027, 1, 1, tzinfo=UTC)) if b"quota" in response.body else None


@pytest.mark.parametrize(
    ("status", "error", "after"),
    [
        (400, ConnectorBug, None),
        (403, RetryLater, 7),
        (404, ConnectorBug, None),
        (408, RetryLater, 7),
        (410, ApiRetired, None),
        (425, RetryLater, 7),
        (429, RetryLater, 7),
        (500, RetryLater, 7),
        (502, RetryLater, 7),
        (503, RetryLater, 7),
        (599, RetryLater, 7),
        (304, ConnectorBug, None),
    ],
)
async def test_what_a_status_means(status: int, error: type[ConnectorError], after: int | None) -> None:
    """Statuses become errors that say what happens next, with the wait that the provider asked for."""
    with pytest.raises(error) as raised:
        await signed(says(status, {"retry-after": "7"})).session.get(API)
    assert type(raised.value) is error
    assert getattr(raised.value, "after", None) == (after and timedelta(seconds=after))


@pytest.mark.parametrize("status", [403, 429])
@pytest.mark.parametrize("name", ["ratelimit", "x-ratelimit", "x-rate-limit"])
async def test_a_spent_limit(status: int, name: str) -> None:
    """Where the provider says that nothing is left and when there is more, the quota is spent until then; a plain 403 is a fault."""
    with pytest.raises(QuotaSpent) as spent:
        await signed(says(status, {f"{name}-remaining": "0", f"{name}-reset": "40"})).session.get(API)
    assert spent.value.until == moment(NOW) + timedelta(seconds=40)
    with pytest.raises(ConnectorBug if status == 403 else RetryLater):
        await signed(says(status, {f"{name}-remaining": "3", f"{name}-reset": "40"})).session.get(API)


async def test_pages_stay_within_the_hosts() -> None:
    """Page by page, as the provider links them, with the credential; a link to somewhere else is not followed."""
    following = {"link": f'<{API}?page=2>; rel="next"', "content-type": "application/json"}
    astray = {"link": '<https://evil.example/>; rel="next"', "content-type": "application/json"}
    it = signed(Response(status=200, headers=following, body=b"[1]"), Response(status=200, headers=astray, body=b"[2]"))
    listed = pages(it.session, API, into=list[int], params={"size": 1})
    assert [await anext(listed), await anext(listed)] == [[1], [2]]
    with pytest.raises(ConnectorBug, match="host"):
        await anext(listed)
    assert [request.url for request in it.script.sent] == [f"{API}?size=1", f"{API}?page=2"]


@pytest.mark.parametrize(
    ("status", "error"),
    [(409, CursorExpired), (403, RetryLater), (404, ConnectorBug), (405, ConnectorBug), (429, SignInAgain), (500, RetryLater)],
)
async def test_a_connector_knows_better(status: int, error: type[ConnectorError]) -> None:
    """What a connector says of a status goes before what we would; where its error needs more than a message, it must explain."""
    with pytest.raises(error) as raised:
        await signed(says(status), connector=Special()).session.get(API)
    assert type(raised.value) is error


async def test_a_connector_explains_an_answer() -> None:
    """What a connector reads in the body goes before everything."""
    with pytest.raises(QuotaSpent):
        await signed(says(403, reason="quota"), connector=Special()).session.get(API)


async def test_accepted_statuses_are_returned() -> None:
    """A status that the connector accepts is an answer, not an error."""
    assert (await signed(says(404)).session.request("GET", API, accept=(404,))).status == 404


class Note(Struct):
    id: str


@pytest.mark.parametrize(
    "answer",
    [
        Response(status=200, headers={"content-type": "Text/HTML; charset=utf-8"}, body=b'{"id": "1"}'),
        Response(status=200, headers={}, body=b'{"id": "1"'),
        Response(status=200, headers={}, body=b""),
        Response(status=200, headers={}, body=b'{"id": "\xff"}'),
        Response(status=200, headers={}, body=b"[" * 100_000),
        Response(status=200, headers={}, body=b"<html>"),
    ],
    ids=["html", "cut", "empty", "not utf-8", "deep", "markup"],
)
async def test_an_answer_that_is_no_json_is_tried_again(answer: Response) -> None:
    """A web page, cut JSON or broken text where JSON was asked for is a passing fault, and brings nothing of its body."""
    with pytest.raises(RetryLater) as raised:
        await signed(answer).session.get(API, into=Note)
    assert raised.value.__context__ is None


async def test_json_of_another_shape_is_a_bug() -> None:
    """Whole JSON of another shape means that the connector was not written for it; values are not quoted."""
    with pytest.raises(ConnectorBug) as raised:
        await signed(says(id=["private"])).session.get(API, into=Note)
    assert "private" not in str(raised.value)


@pytest.mark.parametrize(
    ("fault", "error", "after"),
    [
        (SignInNeeded("it is over"), SignInAgain, None),
        (CredentialGone("c0ffee"), SignInAgain, None),
        (TryLater("a hiccup", 12.5), RetryLater, 12.5),
        (ClientBroken("invalid_client"), RetryLater, 900),
    ],
)
async def test_what_the_vault_says(fault: Exception, error: type[ConnectorError], after: float | None) -> None:
    """What keeps a grant from being used reaches the connector in the SDK's words, and nothing is sent."""
    there = signed()
    there.authority.fault = fault
    with pytest.raises(error) as raised:
        await there.session.get(API)
    assert getattr(raised.value, "after", None) == (after and timedelta(seconds=after))
    assert there.script.sent == []


async def test_why_a_grant_ends() -> None:
    """Where the connector says why grants end at its provider, the person whose grant is gone is told so."""
    connector = Acme()
    connector.auth = replace(connector.auth, ends="Acme ends a sign-in after a year.")
    there = signed(connector=connector)
    there.authority.fault = SignInNeeded("the provider ended it")
    with pytest.raises(SignInAgain, match=r"the provider ended it\. .*connect again\. Acme ends a sign-in after a year\.$"):
        await there.session.get(API)


@pytest.mark.parametrize("fault", [NotSent("no way"), NoAnswer("no end")])
async def test_a_broken_network_is_tried_again(fault: Exception) -> None:
    """What does not arrive is a passing fault."""
    with pytest.raises(RetryLater, match=str(fault)):
        await signed(fault).session.get(API)
