"""The token endpoint: what is sent there, and what each answer means."""

from __future__ import annotations

import asyncio
import base64
import json
import math
from collections.abc import Mapping
from dataclasses import replace
from email.utils import format_datetime
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote_plus

import msgspec
import pytest
from daemon.connections.world import NOW, Acme, Script, form_of, says
from hypothesis import example, given
from hypothesis import strategies as some

from oo_daemon.connections.token_endpoint import ask, basic, classify
from oo_daemon.connections.transport import NoAnswer
from oo_daemon.connections.transport import NotSent as NeverLeft
from oo_daemon.ports import SECOND, moment
from oo_sdk import ClientAuth, OAuth2, Response
from oo_vault import Answer, ClientRefused, GrantDead, NotSent, Renewed, Secret, Unclear

AUTH = replace(
    Acme.auth,
    errors=MappingProxyType({"bad_authorization_code": "invalid_grant", "incorrect_application_credentials": "invalid_client"}),
)
A, R = Secret("access-0123456789"), Secret("refresh-0123456789")
GOOD: Mapping[str, Any] = {"access_token": A.reveal(), "token_type": "Bearer"}


def answer(status: int, body: bytes | Mapping[str, Any], **headers: str) -> Response:
    plain = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(status=status, headers=plain, body=body if isinstance(body, bytes) else msgspec.json.encode(body))


def unclear(status: int, what: str = "", after: float | None = None) -> Unclear:
    return Unclear(reason=f"the token endpoint answered {status}{what}", after=after)


NO_JSON, NO_TOKEN = " and no JSON object", " without a token"

TABLE: list[tuple[str, Response, Answer]] = [
    # RFC 6749 section 5.2, at whatever status
    ("invalid_grant", answer(400, {"error": "invalid_grant"}), GrantDead(reason="invalid_grant")),
    ("invalid_grant at 401", answer(401, {"error": "invalid_grant"}), GrantDead(reason="invalid_grant")),
    ("invalid_grant at 200", answer(200, {"error": "invalid_grant", **GOOD}), GrantDead(reason="invalid_grant")),
    ("invalid_grant at 500", answer(500, {"error": "invalid_grant"}), GrantDead(reason="invalid_grant")),
    ("invalid_client", answer(401, {"error": "invalid_client"}), ClientRefused(reason="invalid_client")),
    ("invalid_client at 400", answer(400, {"error": "invalid_client"}), ClientRefused(reason="invalid_client")),
    ("unauthorized_client", answer(400, {"error": "unauthorized_client"}), ClientRefused(reason="unauthorized_client")),
    ("unsupported_grant_type", answer(400, {"error": "unsupported_grant_type"}), ClientRefused(reason="unsupported_grant_type")),
    ("invalid_scope", answer(400, {"error": "invalid_scope"}), ClientRefused(reason="invalid_scope")),
    ("invalid_request", answer(400, {"error": "invalid_request"}), ClientRefused(reason="invalid_request")),
    ("temporarily_unavailable", answer(400, {"error": "temporarily_unavailable"}, retry_after="9"), unclear(400, after=9.0)),
    ("server_error", answer(400, {"error": "server_error"}), unclear(400)),
    ("slow_down", answer(400, {"error": "slow_down"}), unclear(400)),
    ("a word nobody knows", answer(400, {"error": "<script>"}), unclear(400)),
    # Todoist
    ("bad_authorization_code", answer(400, {"error": "bad_authorization_code"}), GrantDead(reason="invalid_grant")),
    (
        "incorrect_application_credentials",
        answer(400, {"error": "incorrect_application_credentials"}),
        ClientRefused(reason="invalid_client"),
    ),
    # errors that are none
    ("an error of another type", answer(400, {"error": {"code": "invalid_grant"}}), unclear(400, NO_TOKEN)),
    ("an empty error", answer(200, {"error": "", **GOOD}), Renewed(access_token=A)),
    ("a null error", answer(200, {"error": None, **GOOD}), Renewed(access_token=A)),
    # statuses and bodies
    ("500", answer(500, b""), unclear(500, NO_JSON)),
    ("503 with a wait", answer(503, b"", retry_after="120"), unclear(503, NO_JSON, 120.0)),
    ("429 with a wait", answer(429, {}, retry_after="30"), unclear(429, NO_TOKEN, 30.0)),
    (
        "429 with a date",
        answer(429, b"", retry_after=format_datetime(moment(NOW + 30 * SECOND), usegmt=True)),
        unclear(429, NO_JSON, 30.0),
    ),
    ("401 in HTML", answer(401, b"<html>no</html>"), unclear(401, NO_JSON)),
    ("200 in HTML", answer(200, b"<html>log in</html>"), unclear(200, NO_JSON)),
    ("302", answer(302, b"", location="https://evil.example/"), unclear(302, NO_JSON)),
    ("cut JSON", answer(200, b'{"access_token": "access-01'), unclear(200, NO_JSON)),
    ("no UTF-8", answer(200, b'{"access_token": "\xff"}'), unclear(200, NO_JSON)),
    ("deep JSON", answer(200, b'{"a":' * 100_000), unclear(200, NO_JSON)),
    ("empty", answer(200, b""), unclear(200, NO_JSON)),
    ("an array", answer(200, b"[]"), unclear(200, NO_JSON)),
    ("a text", answer(200, b'"access_token"'), unclear(200, NO_JSON)),
    ("null", answer(200, b"null"), unclear(200, NO_JSON)),
    ("a form", answer(200, b"access_token=a&token_type=bearer"), unclear(200, NO_JSON)),
    ("a token at 400", answer(400, GOOD), unclear(400, NO_TOKEN)),
    # the token
    ("no token", answer(200, {"token_type": "Bearer"}), unclear(200, NO_TOKEN)),
    ("an empty token", answer(200, {"access_token": ""}), unclear(200, NO_TOKEN)),
    ("a token of another type", answer(200, {"access_token": 1}), unclear(200, NO_TOKEN)),
    ("a token that would split a header", answer(200, {"access_token": "a\r\nX: y"}), unclear(200, NO_TOKEN)),
    ("a token beyond ASCII", answer(200, {"access_token": "é"}), unclear(200, NO_TOKEN)),
    ("201", answer(201, GOOD), Renewed(access_token=A)),
    ("both tokens", answer(200, {**GOOD, "refresh_token": R.reveal()}), Renewed(access_token=A, refresh_token=R)),
    ("a null refresh token", answer(200, {**GOOD, "refresh_token": None}), Renewed(access_token=A)),
    ("an empty refresh token", answer(200, {**GOOD, "refresh_token": ""}), Renewed(access_token=A)),
    ("a refresh token of another type", answer(200, {**GOOD, "refresh_token": [R.reveal()]}), Renewed(access_token=A)),
    ("a kind of its own", answer(200, {**GOOD, "token_type": "bot"}), Renewed(access_token=A, token_type="bot")),
    ("a kind of another type", answer(200, {**GOOD, "token_type": {}}), Renewed(access_token=A)),
    ("no kind", answer(200, {"access_token": A.reveal()}), Renewed(access_token=A)),
    # scopes
    ("scopes by blanks", answer(200, {**GOOD, "scope": "a b  c"}), Renewed(access_token=A, scopes=("a", "b", "c"))),
    ("scopes by commas", answer(200, {**GOOD, "scope": "a:b,c, d"}), Renewed(access_token=A, scopes=("a:b", "c", "d"))),
    ("an empty scope", answer(200, {**GOOD, "scope": ""}), Renewed(access_token=A)),
    ("a list of scopes", answer(200, {**GOOD, "scope": ["a"]}), Renewed(access_token=A)),
]  # fmt: skip

LIVES: list[tuple[object, int | None]] = [
    (3600, 3600),
    ("3600", 3600),
    (" 3600 ", 3600),
    (3599.9, 3599),
    ("3600.0", 3600),
    (315360000, 315360000),
    (0, None),
    ("0", None),
    (0.5, None),
    (-1, None),
    (10**12, None),
    (10**400, None),
    ("9" * 5000, None),
    ("NaN", None),
    ("inf", None),
    ("", None),
    ("soon", None),
    (None, None),
    (True, None),
    ([3600], None),
    ({}, None),
]


@pytest.mark.rows("C12")
@pytest.mark.parametrize(("response", "meaning"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_what_an_answer_means(response: Response, meaning: Answer) -> None:
    """An answer means what its `error` says, else what its tokens say, and anything else is unclear; reasons quote nobody."""
    assert classify(AUTH, response, now=NOW) == meaning


@pytest.mark.parametrize(("said", "seconds"), LIVES, ids=[repr(said)[:20] for said, _ in LIVES])
def test_how_long_a_token_lives(said: object, seconds: int | None) -> None:
    """A life in whole seconds is understood as number or text; nothing sensible is no end."""
    got = classify(AUTH, Response(status=200, headers={}, body=_json({**GOOD, "expires_in": said})), now=NOW)
    assert isinstance(got, Renewed)
    assert got.expires_in == seconds


def _json(members: Mapping[str, Any]) -> bytes:
    return json.dumps(members).encode()


def test_a_life_that_is_no_json() -> None:
    """A life that JSON cannot say makes the whole answer unclear."""
    for said in (b"NaN", b"1e999", b"Infinity", b"0x10"):
        body = b'{"access_token": "a", "expires_in": ' + said + b"}"
        assert classify(AUTH, Response(status=200, headers={}, body=body), now=NOW) == unclear(200, NO_JSON)


def test_claims_are_what_is_no_secret() -> None:
    """Texts that the endpoint adds are told to the connector; numbers, objects and whatever sounds like a secret are not."""
    got = classify(
        AUTH,
        says(
            **GOOD,
            refresh_token=R.reveal(),
            scope="a",
            expires_in="60",
            id="https://login.example/id/1",
            email="ada@example.org",
            instance_url="https://eu.example",
            uid=7,
            team={"name": "x"},
            id_token="eyJ.a.b",
            session_secret="s",
            apiKey="k",
            Password="p",
            device_code="c",
            client_assertion="a",
        ),
        now=NOW,
    )
    assert isinstance(got, Renewed)
    assert got.extra == {"id": "https://login.example/id/1", "email": "ada@example.org", "instance_url": "https://eu.example"}


@pytest.mark.rows("C7")
def test_no_answer_prints_a_token() -> None:
    """What came of an answer does not print its tokens."""
    assert "0123456789" not in repr(classify(AUTH, answer(200, {**GOOD, "refresh_token": R.reveal()}), now=NOW))


PLAIN = some.none() | some.booleans() | some.integers() | some.floats() | some.text(max_size=5)
JSON = PLAIN | some.lists(PLAIN, max_size=2) | some.dictionaries(some.text(max_size=3), PLAIN, max_size=2)
MEMBERS = some.fixed_dictionaries(
    {},
    optional=dict.fromkeys(("access_token", "refresh_token", "expires_in", "scope", "token_type", "error", "x"), JSON),
)


@given(
    some.integers(100, 599),
    some.dictionaries(some.sampled_from(["retry-after", "content-type"]), some.text(max_size=20)),
    some.binary() | MEMBERS.map(_json),
)
@example(200, {}, b'{"access_token": "a", "expires_in": 1e308}')
@example(200, {}, b'{"access_token": "a", "scope": "\\ud800"}')
def test_no_answer_breaks_it(status: int, headers: dict[str, str], body: bytes) -> None:
    """Whatever bytes come at whatever status, they mean one of the five things."""
    got = classify(AUTH, Response(status=status, headers=headers, body=body), now=NOW)
    assert isinstance(got, Answer)
    if isinstance(got, Renewed):
        assert 200 <= status < 300
        assert got.access_token.reveal().isprintable()
        assert got.expires_in is None or 0 < got.expires_in < math.inf


# ---- what is sent


async def sent(auth: OAuth2, secrets: list[Secret], *answers: Any, form: Mapping[str, str] | None = None) -> tuple[Script, Answer]:
    script = Script(list(answers) or [says(**GOOD)])
    return script, await ask(script, auth, "a client:id", secrets, form or {"grant_type": "refresh_token"}, now=NOW)


async def test_basic() -> None:
    """By Basic, id and secret are form-encoded before base64, and neither is in the body."""
    script, _ = await sent(AUTH, [Secret("s/e:c&r +é")])
    (request,) = script.sent
    plain = base64.b64decode(request.headers["Authorization"].removeprefix("Basic ")).decode()
    assert plain == "a+client%3Aid:s%2Fe%3Ac%26r+%2B%C3%A9"
    assert [unquote_plus(part) for part in plain.split(":")] == ["a client:id", "s/e:c&r +é"]
    assert form_of(request) == {"grant_type": "refresh_token"}
    assert (request.method, request.url) == ("POST", AUTH.token)
    assert request.headers["Content-Type"] == "application/x-www-form-urlencoded"


async def test_post_and_public() -> None:
    """By POST, id and secret are in the body; a public client names itself and has no secret to send."""
    script, _ = await sent(replace(AUTH, client_auth=ClientAuth.POST), [Secret("s&=+")])
    assert form_of(script.sent[0]) == {"grant_type": "refresh_token", "client_id": "a client:id", "client_secret": "s&=+"}
    assert "Authorization" not in script.sent[0].headers
    for auth in (replace(AUTH, client_auth=ClientAuth.NONE), AUTH):
        script, _ = await sent(auth, [])
        assert form_of(script.sent[0]) == {"grant_type": "refresh_token", "client_id": "a client:id"}
        assert "Authorization" not in script.sent[0].headers
    script, _ = await sent(replace(AUTH, client_auth=ClientAuth.NONE), [Secret("s")])
    assert "s" not in form_of(script.sent[0]).values()


async def test_secrets_are_tried_in_order() -> None:
    """A refused secret is followed by the next; after anything else, nothing more is sent."""
    refused = says(401, error="invalid_client")
    secrets = [Secret("new"), Secret("old"), Secret("older")]
    script, got = await sent(AUTH, secrets, refused, says(**GOOD))
    assert got == Renewed(access_token=A)
    assert [request.headers["Authorization"] for request in script.sent] == [basic("a client:id", "new"), basic("a client:id", "old")]
    for last, meaning in [
        (refused, ClientRefused(reason="invalid_client")),
        (says(400, error="incorrect_application_credentials"), ClientRefused(reason="invalid_client")),
    ]:
        script, got = await sent(AUTH, secrets, last)
        assert (len(script.sent), got) == (3, meaning)
    for first in (says(400, error="invalid_grant"), says(400, error="invalid_request"), says(500), NoAnswer("lost"), NeverLeft("no way")):
        script, _ = await sent(AUTH, secrets, first)
        assert len(script.sent) == 1
    script, got = await sent(AUTH, secrets, refused, NoAnswer("lost"))
    assert (len(script.sent), got) == (2, Unclear(reason="lost"))


async def test_a_broken_network() -> None:
    """What never left is not sent; what may have left is unclear."""
    assert (await sent(AUTH, [], NeverLeft("no way")))[1] == NotSent(reason="no way")
    assert (await sent(AUTH, [], NoAnswer("no end")))[1] == Unclear(reason="no end")


@pytest.mark.parametrize(
    "token", ["http://acme.example/token", "https://me@acme.example/token", "acme.example", "", "https://[::1", "https://a\n.example/"]
)
async def test_a_secret_goes_to_no_doubtful_address(token: str) -> None:
    """Where the token address is plain http, or no clear address, nothing leaves."""
    script, got = await sent(replace(AUTH, token=token), [Secret("s")])
    assert isinstance(got, NotSent)
    assert script.sent == []


@given(some.text(), some.text(), some.text())
def test_nothing_in_the_form_breaks_it(client_id: str, secret: str, code: str) -> None:
    """Whatever a browser brought as a code, the answer is one of the five."""

    async def go() -> Answer:
        return await ask(Script([says(**GOOD)]), AUTH, client_id, [Secret(secret)], {"code": code}, now=NOW)

    assert isinstance(asyncio.run(go()), Renewed)


async def test_a_code_that_is_no_text() -> None:
    """A code with half a character in it is sent broken, not raised with."""
    script, got = await sent(AUTH, [Secret("\udcff")], form={"code": "\udcff"})
    assert isinstance(got, Renewed)
    assert form_of(script.sent[0]) == {"code": "?"}
