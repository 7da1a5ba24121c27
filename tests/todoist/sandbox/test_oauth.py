from __future__ import annotations

from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import pytest
from todoist.sandbox.visitor import ALL, CALLBACK, Visitor, called, visiting

VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"  # RFC 7636, appendix B


async def test_a_person_allows_and_the_app_gets_a_code_with_its_state(stranger: Visitor) -> None:
    """Allow sends the browser back with a code and the state, and the code gives the three members of a new app's answer."""
    back = await stranger.decide(await stranger.ask(state="my state & more"))
    assert back["state"] == "my state & more"
    status, tokens = await stranger.token(code=back["code"])
    assert status == 200
    assert tokens.keys() == {"access_token", "token_type", "expires_in", "refresh_token", "state"}
    assert (tokens["token_type"], tokens["expires_in"]) == ("Bearer", 3600)


async def test_the_page_says_who_asks_for_what(stranger: Visitor) -> None:
    """The consent page names the app, the scopes in words and the people, and may not be framed or cached."""
    page = await stranger.ask(scope="data:read,task:add")
    text = await page.text()
    for said in ("oO", "See your tasks", "Add new tasks", "Ada", "Grace", "Allow", "Deny"):
        assert said in text
    assert page.headers["Cache-Control"] == "no-store"
    assert page.headers["X-Frame-Options"] == "DENY"


async def test_a_person_denies(stranger: Visitor) -> None:
    """Deny sends the browser back with access_denied and the state."""
    assert await stranger.decide(await stranger.ask(), "deny") == {"error": "access_denied", "state": "s"}


async def test_a_form_counts_once(stranger: Visitor) -> None:
    """The same consent form sent twice gives one code."""
    page = await stranger.ask()
    await stranger.decide(page)
    with pytest.raises(AssertionError, match="invalid_request"):
        await stranger.decide(page)


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ({"scope": "data:read data:delete"}, "invalid_scope"),
        ({"scope": "everything"}, "invalid_scope"),
        ({"scope": ""}, "invalid_scope"),
        ({"response_type": "token"}, "invalid_request"),
        ({"code_challenge": CHALLENGE}, "invalid_request"),
        ({"code_challenge": CHALLENGE, "code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge": "short", "code_challenge_method": "S256"}, "invalid_request"),
    ],
)
async def test_a_wrong_request_goes_back_with_its_error(stranger: Visitor, query: dict[str, str], error: str) -> None:
    """What the app asked wrongly is told to the app."""
    assert called(await stranger.ask(**query)) == {"error": error, "state": "s"}


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ({"client_id": "unknown"}, "invalid_client"),
        ({"redirect_uri": "https://evil.example/"}, "invalid_request"),
        ({"redirect_uri": "https://127.0.0.1/"}, "invalid_request"),
        ({"redirect_uri": ""}, "invalid_request"),
    ],
)
async def test_nobody_is_sent_to_an_address_that_is_not_the_apps(stranger: Visitor, query: dict[str, str], error: str) -> None:
    """Without an app or a registered address the answer is JSON in the browser."""
    answer = await stranger.ask(**query)
    assert (answer.status, await answer.json()) == (400, {"error": error})


async def test_a_single_registered_address_need_not_be_sent() -> None:
    """With one registered redirect URI redirect_uri is optional, with two it is not."""
    async with visiting(redirect_uris=[CALLBACK]) as visitor:
        assert (await visitor.ask(redirect_uri="")).status == 200
    async with visiting(redirect_uris=[CALLBACK, "https://other.example/"]) as visitor:
        assert (await visitor.ask(redirect_uri="")).status == 400


async def test_a_state_is_required(stranger: Visitor) -> None:
    """state is listed as required, so a request without it goes back refused."""
    assert called(await stranger.ask(state="")) == {"error": "invalid_request"}


async def test_errors_of_the_token_endpoint_are_the_documented_ones(stranger: Visitor, real: Callable[[str], Any]) -> None:
    """A bad code and bad credentials are answered with exactly the documented bodies."""
    assert await stranger.token(code="bad") == (400, real("doc_oauth_error_bad_code"))
    assert await stranger.token(code="bad", client_secret="bad") == (400, real("doc_oauth_error_bad_client"))


async def test_a_code_used_twice_takes_back_what_it_gave(stranger: Visitor) -> None:
    """The second use of a code is refused and revokes the tokens of the first."""
    code = await stranger.code()
    _, tokens = await stranger.token(code=code)
    stranger.access = tokens["access_token"]
    assert (await stranger.api("GET", "user"))[0] == 200
    assert await stranger.token(code=code) == (400, {"error": "bad_authorization_code"})
    assert (await stranger.api("GET", "user"))[0] == 401
    assert await stranger.refresh(tokens["refresh_token"]) == (400, {"error": "invalid_grant"})


async def test_a_code_lives_ten_minutes(stranger: Visitor) -> None:
    """A code works for less than ten minutes and no longer."""
    in_time, late = await stranger.code(), await stranger.code()
    stranger.clock.forward(minutes=9, seconds=59)
    assert (await stranger.token(code=in_time))[0] == 200
    stranger.clock.forward(seconds=1)
    assert (await stranger.token(code=late))[0] == 400


async def test_the_redirect_uri_must_match_when_given(stranger: Visitor) -> None:
    """The exchange may leave redirect_uri out, as the official clients do, but not change it."""
    code = await stranger.code()
    assert (await stranger.token(code=code, redirect_uri=CALLBACK + "x"))[0] == 400
    assert (await stranger.token(code=code, redirect_uri=CALLBACK))[0] == 200


async def test_pkce_is_verified_when_a_challenge_was_sent(stranger: Visitor) -> None:
    """Only the verifier of the challenge opens the code, and without a challenge none may be sent."""
    pkce = {"code_challenge": CHALLENGE, "code_challenge_method": "S256"}
    code = await stranger.code(**pkce)
    assert (await stranger.token(code=code))[0] == 400
    assert (await stranger.token(code=code, code_verifier=VERIFIER[:-1] + "z"))[0] == 400
    assert (await stranger.token(code=code, code_verifier=VERIFIER))[0] == 200
    assert (await stranger.token(code=await stranger.code(), code_verifier=VERIFIER))[0] == 400


async def test_the_token_endpoint_takes_json_and_basic(stranger: Visitor) -> None:
    """JSON without a grant_type works, as the official clients send it; so does HTTP Basic."""
    assert (await stranger.token(json=True, code=await stranger.code()))[0] == 200
    data = {"code": await stranger.code(), "grant_type": "authorization_code"}
    answer = await stranger.visit("POST", "/oauth/access_token", data=data, headers=stranger.basic())
    assert answer.status == 200


async def test_a_refresh_rotates(stranger: Visitor) -> None:
    """A refresh gives a new pair, and the new refresh token works in its turn."""
    first = await stranger.sign_in()
    _, second = await stranger.refresh(first["refresh_token"])
    assert second["refresh_token"] != first["refresh_token"]
    assert second["access_token"] != first["access_token"]
    assert second["expires_in"] == 3600
    stranger.access = second["access_token"]
    assert (await stranger.api("GET", "user"))[0] == 200
    assert (await stranger.refresh(second["refresh_token"]))[0] == 200


async def test_a_repeat_within_a_minute_gives_the_same_access_token_only(stranger: Visitor) -> None:
    """Up to 60 s after its first use a spent refresh token gives the replacement access token and no refresh_token."""
    first = await stranger.sign_in()
    _, second = await stranger.refresh(first["refresh_token"])
    stranger.clock.forward(seconds=60)
    status, again = await stranger.refresh(first["refresh_token"])
    assert (status, again) == (200, {"access_token": second["access_token"], "token_type": "Bearer", "expires_in": 3540})
    assert (await stranger.refresh(second["refresh_token"]))[0] == 200


async def test_a_repeat_after_a_minute_ends_every_token_of_the_user_for_the_app(stranger: Visitor) -> None:
    """More than 60 s after its first use a spent refresh token kills the whole grant, other sign-ins included; others live on."""
    other_sign_in = await stranger.sign_in()
    grace = await stranger.sign_in(user="Grace")
    first = await stranger.sign_in()
    _, second = await stranger.refresh(first["refresh_token"])
    stranger.clock.forward(seconds=60, microseconds=1)
    assert await stranger.refresh(first["refresh_token"]) == (400, {"error": "invalid_grant"})
    for dead in (second, other_sign_in):
        assert await stranger.refresh(dead["refresh_token"]) == (400, {"error": "invalid_grant"})
        stranger.access = dead["access_token"]
        assert (await stranger.api("GET", "user"))[0] == 401
    stranger.access = grace["access_token"]
    assert (await stranger.api("GET", "user"))[0] == 200


async def test_an_access_token_ends_after_an_hour(ada: Visitor) -> None:
    """An expired token is answered 401, code 477, with WWW-Authenticate: Bearer and a courtesy retry_after."""
    ada.clock.forward(seconds=3599)
    assert (await ada.api("GET", "user"))[0] == 200
    ada.clock.forward(seconds=1)
    answer = await ada.raw("GET", "user")
    body = await answer.json()
    assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert (body["error_code"], body["error_tag"], body["http_code"]) == (477, "UNAUTHORIZED", 401)
    assert body["error_extra"]["retry_after"] == 3


@pytest.mark.parametrize(("switch", "members"), [("legacy_ten_years", {"expires_in"}), ("legacy_no_expiry", set[str]())])
async def test_an_old_app_gets_no_refresh_token(switch: str, members: set[str]) -> None:
    """Apps from before 2026 get a ten-year token, or one without expires_in, and nothing to refresh."""
    async with visiting(misbehave=[switch]) as visitor:
        tokens = await visitor.sign_in()
        assert tokens.keys() == {"access_token", "token_type", "state"} | members
        assert tokens.get("expires_in", 315360000) == 315360000
        visitor.clock.forward(days=3000)
        assert (await visitor.api("GET", "user"))[0] == 200


async def test_an_access_token_is_revoked_by_form_or_json_and_the_refresh_token_outlives_it(stranger: Visitor) -> None:
    """Both shapes of revoke answer 200 null and end the access token alone; the refresh token itself is refused with 403."""
    for shape in ("data", "json"):
        tokens = await stranger.sign_in()
        sent: dict[str, Any] = {shape: {"token": tokens["access_token"], "token_type_hint": "access_token"}}
        assert await stranger.api("POST", "revoke", headers=stranger.basic(), **sent) == (200, None)
        assert (await stranger.api("GET", "user"))[0] == 401
        sent = {shape: {"token": tokens["refresh_token"]}}
        assert (await stranger.api("POST", "revoke", headers=stranger.basic(), **sent))[0] == 403
        assert (await stranger.refresh(tokens["refresh_token"]))[0] == 200


async def test_revoke_wants_the_app_by_basic_and_shrugs_at_unknown_tokens(stranger: Visitor) -> None:
    """Wrong or missing client credentials are 401, an unknown token is 200, no token is 400."""
    headers = {"Authorization": "Basic " + b64encode(b"a:b").decode()}
    assert (await stranger.api("POST", "revoke", headers=headers, data={"token": "x"}))[0] == 401
    body = {"token": "x", "client_id": stranger.sandbox.client_id, "client_secret": stranger.sandbox.client_secret}
    assert (await stranger.api("POST", "revoke", data=body))[0] == 401
    assert await stranger.api("POST", "revoke", headers=stranger.basic(), data={"token": "x"}) == (200, None)
    assert (await stranger.api("POST", "revoke", headers=stranger.basic()))[0] == 400


async def test_the_older_way_to_revoke_works_too(ada: Visitor) -> None:
    """DELETE /access_tokens with everything in the address ends the access token."""
    query = {"client_id": ada.sandbox.client_id, "client_secret": ada.sandbox.client_secret, "access_token": ada.access}
    assert (await ada.api("DELETE", "access_tokens", params={**query, "client_secret": "no"}))[0] == 400
    assert await ada.api("DELETE", "access_tokens", params=query) == (200, None)
    assert (await ada.api("GET", "user"))[0] == 401


async def test_a_public_client_registers_itself_and_must_use_pkce(stranger: Visitor) -> None:
    """A dynamically registered client has an id that begins with tdd_, no secret, and gets tokens with PKCE only."""
    wish = {"redirect_uris": [CALLBACK], "client_name": "CLI", "scope": "data:read", "token_endpoint_auth_method": "none"}
    answer = await stranger.visit("POST", "/oauth/register", json=wish)
    client = await answer.json()
    assert answer.status == 201
    assert client["client_id"].startswith("tdd_")
    assert "client_secret" not in client
    assert called(await stranger.ask(client_id=client["client_id"])) == {"error": "invalid_request", "state": "s"}
    challenge = urlsafe_b64encode(sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
    query = {"client_id": client["client_id"], "code_challenge": challenge, "code_challenge_method": "S256"}
    data = {"client_id": client["client_id"], "code": await stranger.code(**query), "code_verifier": VERIFIER}
    given = await stranger.visit("POST", "/oauth/access_token", data=data)
    assert given.status == 200
    refresh = {**data, "grant_type": "refresh_token", "refresh_token": (await given.json())["refresh_token"]}
    assert (await stranger.visit("POST", "/oauth/access_token", data=refresh)).status == 200


async def test_the_metadata_names_the_endpoints(stranger: Visitor) -> None:
    """The metadata document has our address as issuer and names every endpoint under it."""
    document = await (await stranger.visit("GET", "/.well-known/oauth-authorization-server")).json()
    settings = stranger.sandbox.settings(stranger.address)
    assert document["issuer"] == stranger.address
    assert document["authorization_endpoint"] == settings["authorize"]
    assert document["token_endpoint"] == settings["token"]
    assert document["revocation_endpoint"] == settings["revoke"]
    assert document["code_challenge_methods_supported"] == ["S256"]


@pytest.mark.parametrize(
    ("scope", "command", "allowed"),
    [
        ("task:add", "item_add", True),
        ("task:add", "project_add", False),
        ("data:read", "item_add", False),
        ("data:read_write", "item_add", True),
        ("data:read_write", "item_delete", False),
        ("data:read_write,data:delete", "project_delete", False),
        (ALL, "project_delete", True),
    ],
)
async def test_a_command_needs_its_scope(stranger: Visitor, scope: str, command: str, allowed: bool) -> None:
    """A command outside the token's scopes fails with 403 and its tag, and changes nothing."""
    await stranger.sign_in(scope)
    account = stranger.sandbox.world.account("ada")
    assert account is not None
    item, project = next(account.every("items")), list(account.every("projects"))[-1]
    args = {
        "item_add": {"content": "x"},
        "project_add": {"name": "x"},
        "item_delete": {"id": item["id"]},
        "project_delete": {"id": project["id"]},
    }[command]
    before = account.position
    status = await stranger.one(command, **args)
    if allowed:
        assert isinstance(status, str)
    else:
        assert (status["http_code"], status["error_tag"]) == (403, "AUTH_INSUFFICIENT_TOKEN_SCOPE")
        assert account.position == before


async def test_reading_needs_a_reading_scope(stranger: Visitor) -> None:
    """task:add reads nothing: sync and REST answer 403 as a whole."""
    await stranger.sign_in("task:add")
    for method, path, sent in (
        ("GET", "user", {}),
        ("GET", "tasks", {}),
        ("POST", "sync", {"json": {"sync_token": "*", "resource_types": ["items"]}}),
    ):
        status, body = await stranger.api(method, path, **sent)
        assert (status, body["error_tag"]) == (403, "AUTH_INSUFFICIENT_TOKEN_SCOPE")
