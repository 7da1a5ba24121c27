"""Signing in at the issuer: which answers count, and in whose browser."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from daemon.connections.world import Chance, Clock, form_of
from daemon.identity.world import AUDIENCE, ISSUER, SECOND_KEY, Site, an_issuer, token
from daemon.virtual import Notes

from oo_daemon.connections.token_endpoint import basic
from oo_daemon.identity.person import CannotTell, NotSignedIn, NotVouched
from oo_daemon.identity.sign_in import LIFE, OpenId
from oo_daemon.ports import SECOND
from oo_sdk import Response
from oo_vault import Keyring, Secret

BACK = "https://oo.example/identity/callback"
CLIENT, SECRET = "oo at work", "canary/secret+0123456789"


@dataclass
class World:
    site: Site
    clock: Clock
    notes: Notes
    keyring: Keyring
    secret: Secret | None = field(default_factory=lambda: Secret(SECRET))

    @property
    def room(self) -> OpenId:
        issuer = an_issuer(self.site, self.clock, self.notes, operators=["staff"])
        return OpenId(
            issuer=issuer, client_id=CLIENT, secret=self.secret, scopes=("openid", "email"), keyring=self.keyring, chance=self.chance
        )

    def __post_init__(self) -> None:
        self.chance = Chance()

    async def begun(self, purpose: str = "connecting") -> tuple[dict[str, str], str]:
        """What the address says, and what the browser keeps."""
        begun = await self.room.begin(BACK, purpose=purpose, carried="the-link")
        assert SECRET not in repr(begun)
        return {name: value for name, (value,) in parse_qs(urlsplit(begun.address).query).items()}, begun.kept

    def gives(self, asked: dict[str, str], **claims: Any) -> None:
        """The issuer's answer to the code."""
        told = token(self.clock, **{"aud": CLIENT, "nonce": asked["nonce"], "roles": ["staff"], **claims})
        self.site.exchange = lambda: Response(status=200, headers={}, body=json.dumps({"id_token": told}).encode())


@pytest.fixture
def world() -> World:
    return World(Site(), Clock(), Notes(), Keyring([bytes(range(32))]))


def answer(asked: dict[str, str], **more: str) -> dict[str, str]:
    return {"state": asked["state"], "code": "c0de", "iss": ISSUER, **more}


@pytest.mark.rows("D1", "D2", "D6")
async def test_the_whole_way(world: World) -> None:
    """State, nonce and S256 go with the browser; the code is exchanged once, by our client; who it is comes back with what was carried."""
    asked, kept = await world.begun()
    assert {name: asked[name] for name in ("response_type", "client_id", "redirect_uri", "scope", "code_challenge_method")} == {
        "response_type": "code",
        "client_id": CLIENT,
        "redirect_uri": BACK,
        "scope": "openid email",
        "code_challenge_method": "S256",
    }
    world.gives(asked)
    person, carried = await world.room.finish(kept, answer(asked), purpose="connecting")
    assert (person.name, person.role, carried) == ("ada", "operator", "the-link")
    (sent,) = world.site.exchanges
    assert sent.headers["Authorization"] == basic(CLIENT, SECRET)
    form = form_of(sent)
    assert (form["code"], form["redirect_uri"], len(form["code_verifier"])) == ("c0de", BACK, 43)
    for secret in (form["code_verifier"], asked["state"], asked["nonce"], "the-link"):
        assert secret not in kept


@pytest.mark.parametrize(("secret", "methods"), [(None, ["none"]), (Secret(SECRET), ["client_secret_post"])])
async def test_other_clients(world: World, secret: Secret | None, methods: list[str]) -> None:
    """A public client sends its id, and one whose issuer wants it so its secret in the form."""
    world.secret, world.site.members = secret, {"token_endpoint_auth_methods_supported": methods}
    asked, kept = await world.begun()
    world.gives(asked)
    await world.room.finish(kept, answer(asked), purpose="connecting")
    (sent,) = world.site.exchanges
    assert "Authorization" not in sent.headers
    assert form_of(sent).get("client_secret") == (secret and secret.reveal())
    assert form_of(sent)["client_id"] == CLIENT


WRONG_ANSWERS: list[dict[str, str]] = [
    {"state": "another"},
    {"state": ""},
    {"state": "ä"},
    {"iss": "https://id.example/customers"},
    {"iss": ISSUER + "/"},
]


@pytest.mark.rows("D1", "D6")
@pytest.mark.parametrize("more", WRONG_ANSWERS)
async def test_an_answer_that_is_not_ours(world: World, more: dict[str, str]) -> None:
    """Another's state and another issuer's answer are dropped before a code is sent anywhere."""
    asked, kept = await world.begun()
    world.gives(asked)
    with pytest.raises(NotVouched):
        await world.room.finish(kept, answer(asked, **more), purpose="connecting")
    assert world.site.exchanges == []


async def test_an_issuer_that_names_itself(world: World) -> None:
    """Where its document says so, an answer without `iss` is none of it."""
    for sends, refused in ((True, True), (False, False)):
        world.site.members = {"authorization_response_iss_parameter_supported": sends}
        asked, kept = await world.begun()
        world.gives(asked)
        given = answer(asked)
        del given["iss"]
        if refused:
            with pytest.raises(NotVouched):
                await world.room.finish(kept, given, purpose="connecting")
        else:
            await world.room.finish(kept, given, purpose="connecting")


@pytest.mark.rows("D2")
async def test_another_browser_another_page_and_too_late(world: World) -> None:
    """What the browser keeps must be ours, whole, for this page, and not too old."""
    asked, kept = await world.begun()
    world.gives(asked)
    other, others = await world.begun("the console")
    for shown in ("", "x", "k.x", kept[:-4], kept[:-4] + "AAAA", others, f"{others.split('.')[0]}.{kept.split('.')[1][:-8]}", kept * 3):
        with pytest.raises(NotVouched):
            await world.room.finish(shown, answer(asked), purpose="connecting")
    with pytest.raises(NotVouched):
        await world.room.finish(kept, answer(asked), purpose="the console")
    assert world.site.exchanges == []
    world.clock.time += LIFE * SECOND
    with pytest.raises(NotVouched):
        await world.room.finish(kept, answer(asked), purpose="connecting")
    assert world.site.exchanges == []
    world.gives(other)
    again = World(world.site, world.clock, world.notes, Keyring([bytes(range(32))]))
    with pytest.raises(NotVouched):  # too late there, too
        await again.room.finish(others, answer(other), purpose="the console")


WRONG_CLAIMS: list[dict[str, Any]] = [
    {"nonce": "another"},
    {"nonce": None},
    {"nonce": ["x"]},
    {"aud": AUDIENCE},
    {"aud": [CLIENT, AUDIENCE], "azp": "another"},
    {"iss": "https://id.example/customers"},
    {"exp": 1},
    {"sub": ""},
    {"key": SECOND_KEY},
]


@pytest.mark.parametrize("claims", WRONG_CLAIMS, ids=lambda it: "-".join(it))
async def test_a_token_that_is_not_for_this_sign_in(world: World, claims: dict[str, Any]) -> None:
    """Another nonce, another audience, another issuer's, an old one, nobody's, or one that another key has signed: nobody has signed in."""
    asked, kept = await world.begun()
    world.gives(asked, **claims)
    with pytest.raises(NotVouched):
        await world.room.finish(kept, answer(asked), purpose="connecting")


async def test_no_and_faults(world: World) -> None:
    """A no of the person, a code that is spent, a client that is unknown, and an issuer that is down are four different things."""
    asked, kept = await world.begun()
    with pytest.raises(NotSignedIn):
        await world.room.finish(kept, {"state": asked["state"], "error": "access_denied", "iss": ISSUER}, purpose="connecting")
    with pytest.raises(NotVouched):
        await world.room.finish(kept, answer(asked), purpose="connecting")
    for body in (b'{"error": "invalid_client"}', b"<html>", b"[]"):
        world.site.exchange = lambda body=body: Response(status=401, headers={}, body=body)  # type: ignore[misc]
        with pytest.raises(CannotTell):
            await world.room.finish(kept, answer(asked), purpose="connecting")
    assert len(world.notes.said("issuer_not_asked")) == 3
    world.site.down = True
    with pytest.raises(CannotTell):
        await world.room.finish(kept, answer(asked), purpose="connecting")
    with pytest.raises(CannotTell):
        await world.room.begin(BACK, purpose="connecting")
    with pytest.raises(CannotTell):
        await world.room.origin()


@pytest.mark.parametrize("where", ["http://id.example/auth", "javascript:alert(1)", "", "https://id.example@evil.example/"])
async def test_where_nobody_is_sent(world: World, where: str) -> None:
    """An address that is none of https is no place to send anybody to."""
    world.site.members = {"authorization_endpoint": where}
    with pytest.raises(CannotTell):
        await world.room.begin(BACK, purpose="connecting")
