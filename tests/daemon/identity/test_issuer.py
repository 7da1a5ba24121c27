"""Tokens of an issuer's: which are believed, and how its keys are known."""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import pytest
from daemon.connections.world import Clock
from daemon.identity.world import AUDIENCE, FIRST, ISSUER, SECOND_KEY, Site, a_key, an_issuer, by_hand, token
from daemon.virtual import Notes
from joserfc.errors import SecurityWarning
from joserfc.jwk import OctKey, RSAKey

from oo_daemon.connections.metadata import FRESH as DOCUMENT_FRESH
from oo_daemon.identity.issuer import FRESH, KEPT, PAUSE
from oo_daemon.identity.person import CannotTell, Claims, NotVouched
from oo_daemon.ports import SECOND


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def believed(site: Site, clock: Clock, shown: str, **how: Any) -> bool:
    try:
        await an_issuer(site, clock, **how).claims_of(shown, AUDIENCE)
    except NotVouched:
        return False
    return True


@pytest.mark.rows("D3")
async def test_a_token_that_holds(clock: Clock) -> None:
    """Signed by the issuer's key, for us, in time: it says who asks and how far they may go."""
    person = await an_issuer(Site(), clock).person(token(clock), AUDIENCE)
    assert (person.name, person.role, sorted(person.scopes)) == ("ada", "user", ["connect", "read"])
    assert "ada" not in repr(person)


def _past(clock: Clock, seconds: int) -> int:
    return clock.now() // SECOND - seconds


PUBLIC = json.dumps(FIRST.as_dict(private=False))
PEM = FIRST.as_pem(private=False) if isinstance(FIRST, RSAKey) else b""


def _with_public_key_as_secret(clock: Clock, secret: bytes, kid: str | None = "first") -> str:
    """HS256 with what everybody can fetch: believed by who lets the header choose."""
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ada", "exp": clock.now() // SECOND + 300}
    unsigned = by_hand({"alg": "HS256", **({"kid": kid} if kid else {})}, claims).removesuffix(".")
    signature = hmac.digest(secret, unsigned.encode(), sha256)
    return by_hand({"alg": "HS256", **({"kid": kid} if kid else {})}, claims, signature)


WRONG: dict[str, Callable[[Clock], str]] = {
    "expired": lambda clock: token(clock, exp=_past(clock, 31)),
    "without an end": lambda clock: token(clock, exp=None),
    "an end that is no number": lambda clock: token(clock, exp="never"),
    "not yet": lambda clock: token(clock, nbf=_past(clock, -60)),
    "made in the future": lambda clock: token(clock, iat=_past(clock, -60)),
    "another issuer": lambda clock: token(clock, iss="https://id.example/customers"),
    "an issuer with a slash more": lambda clock: token(clock, iss=ISSUER + "/"),
    "without an issuer": lambda clock: token(clock, iss=None),
    "for somebody else": lambda clock: token(clock, aud="https://other.example"),
    "for several, not us": lambda clock: token(clock, aud=["https://other.example", AUDIENCE + "/"]),
    "for nobody": lambda clock: token(clock, aud=None),
    "for an empty list": lambda clock: token(clock, aud=[]),
    "another's key under our key's name": lambda clock: token(clock, key=SECOND_KEY, header={"kid": "first"}),
    "another's key under its own name": lambda clock: token(clock, key=SECOND_KEY),
    "alg none": lambda clock: by_hand({"alg": "none"}, {"iss": ISSUER, "aud": AUDIENCE, "sub": "ada", "exp": _past(clock, -300)}),
    "alg None": lambda clock: by_hand({"alg": "None", "kid": "first"}, {"iss": ISSUER, "aud": AUDIENCE, "exp": _past(clock, -300)}),
    "alg none with a signature": lambda clock: by_hand({"alg": "none", "kid": "first"}, {"iss": ISSUER, "aud": AUDIENCE}, b"x" * 256),
    "HS256 over the PEM": lambda clock: _with_public_key_as_secret(clock, PEM),
    "HS256 over the PEM without its last line end": lambda clock: _with_public_key_as_secret(clock, PEM.strip()),
    "HS256 over the document": lambda clock: _with_public_key_as_secret(clock, PUBLIC.encode()),
    "HS256 without a key id": lambda clock: _with_public_key_as_secret(clock, PEM, None),
    "HS256 with a key of its own": lambda clock: _with_public_key_as_secret(clock, b"x" * 32),
    "an algorithm of the same key that is not pinned": lambda clock: token(
        clock, key=RSAKey.import_key({**FIRST.as_dict(private=True), "alg": "PS256"}), header={"alg": "PS256"}
    ),
    "a key in its own header": lambda clock: token(clock, key=SECOND_KEY, header={"kid": None, "jwk": SECOND_KEY.as_dict(private=False)}),
    "a key to be fetched elsewhere": lambda clock: token(clock, key=SECOND_KEY, header={"jku": "https://evil.example/jwks"}),
    "something critical that we do not know": lambda clock: by_hand({"alg": "RS256", "kid": "first", "crit": ["x"], "x": 1}, {}, b"x"),
    "a signature that is cut": lambda clock: token(clock)[:-8],
    "other claims under the signature": lambda clock: ".".join(
        [token(clock).split(".")[0], by_hand({}, {"sub": "grace"}).split(".")[1], token(clock).split(".")[2]]
    ),
    "no token": lambda clock: "oops",
    "nothing": lambda clock: "",
    "dots": lambda clock: "..",
    "letters of another kind": lambda clock: "ä.ö.ü",
    "very long": lambda clock: token(clock, more="x" * 9000),
    "a list in place of claims": lambda clock: by_hand({"alg": "RS256", "kid": "first"}, []),  # type: ignore[arg-type]
    "a key id that is a list": lambda clock: by_hand({"alg": "RS256", "kid": ["first"]}, {}, b"x"),
    "a deep header": lambda clock: "e" + "W1tb" * 1500 + ".e30.eA",
}


@pytest.mark.rows("D3")
@pytest.mark.parametrize("wrong", WRONG)
async def test_a_token_that_does_not_hold(clock: Clock, wrong: str) -> None:
    """Whatever is wrong with it, it proves nothing, and nothing of it is in what is said."""
    shown = WRONG[wrong](clock)
    with pytest.raises(NotVouched) as caught:
        await an_issuer(Site(), clock).person(shown, AUDIENCE)
    assert not shown or shown not in str(caught.value)
    assert caught.value.__context__ is None or not isinstance(caught.value.__context__, ValueError)


@pytest.mark.parametrize("kind", ["EC", "OKP"])
async def test_other_algorithms_where_they_are_pinned(clock: Clock, kind: str) -> None:
    """Elliptic curves count where the operator says so, and only there."""
    key = a_key("first", kind)
    site, name = Site(keys=[key]), {"EC": "ES256", "OKP": "Ed25519"}[kind]
    assert await believed(site, clock, token(clock, key=key), algorithms=(name,))
    assert not await believed(site, clock, token(clock, key=key))


async def test_keys_that_are_for_something_else(clock: Clock) -> None:
    """A key for encrypting, a short one, one without a kind and a symmetric one are passed over; the others count."""
    with pytest.warns(SecurityWarning):
        short = RSAKey.generate_key(1024, {"kid": "short"})
    other = RSAKey.import_key({**SECOND_KEY.as_dict(private=True), "use": "enc"})
    odd = OctKey.import_key("x" * 32, {"kid": "odd"})
    site = Site(keys=[short, other, odd, FIRST])
    assert await believed(site, clock, token(clock))
    assert not await believed(site, clock, token(clock, key=short))
    assert not await believed(site, clock, token(clock, key=SECOND_KEY))


async def test_a_token_without_a_key_id(clock: Clock) -> None:
    """It is held against the only key; where there are several, nobody guesses."""
    shown = token(clock, header={"kid": None})
    assert await believed(Site(), clock, shown)
    assert not await believed(Site(keys=[FIRST, SECOND_KEY]), clock, shown)


@pytest.mark.rows("D6")
async def test_keys_are_kept_and_change(clock: Clock) -> None:
    """Keys are fetched once; a key nobody knows has them fetched again, every half minute at most; a key that went is refused."""
    site = Site()
    issuer = an_issuer(site, clock)
    for _ in range(100):
        await issuer.claims_of(token(clock), AUDIENCE)
    assert site.key_looks == 1
    clock.time += int(PAUSE * SECOND)
    site.keys = [SECOND_KEY, FIRST]
    await issuer.claims_of(token(clock, key=SECOND_KEY), AUDIENCE)
    assert site.key_looks == 2
    for number in range(100):
        with pytest.raises(NotVouched):
            await issuer.claims_of(token(clock, key=a_key("x", "EC"), header={"kid": f"made up {number}"}), AUDIENCE)
    assert site.key_looks == 2
    site.keys = [SECOND_KEY]
    clock.time += int(FRESH * SECOND)
    with pytest.raises(NotVouched):
        await issuer.claims_of(token(clock), AUDIENCE)
    await issuer.claims_of(token(clock, key=SECOND_KEY), AUDIENCE)


async def test_an_issuer_out_of_reach(clock: Clock) -> None:
    """Keys that are known stand in for a day; after that, and before any are known, nobody can be told from anybody."""
    site, notes = Site(down=True), Notes()
    issuer = an_issuer(site, clock, notes)
    with pytest.raises(CannotTell):
        await issuer.claims_of(token(clock), AUDIENCE)
    assert len(notes.said("issuer_not_asked")) == 1
    site.down = False
    clock.time += int(PAUSE * SECOND)
    await issuer.claims_of(token(clock), AUDIENCE)
    site.down = True
    clock.time += int((KEPT - 60) * SECOND)
    await issuer.claims_of(token(clock), AUDIENCE)
    clock.time += int(120 * SECOND)
    with pytest.raises(CannotTell):
        await issuer.claims_of(token(clock), AUDIENCE)


@pytest.mark.parametrize("members", [{"issuer": "https://id.example/"}, {"jwks_uri": "http://id.example/jwks"}, {"jwks_uri": 7}])
async def test_a_document_that_is_not_the_issuers(clock: Clock, members: dict[str, Any]) -> None:
    """Another issuer's name in the document, or keys over plain http: nothing is believed."""
    with pytest.raises(CannotTell):
        await an_issuer(Site(members=members), clock).claims_of(token(clock), AUDIENCE)


async def test_documents_are_looked_at_again(clock: Clock) -> None:
    """The issuer's document is fetched once an hour at most."""
    site = Site()
    issuer = an_issuer(site, clock)
    for _ in range(12):
        await issuer.claims_of(token(clock), AUDIENCE)
        clock.time += int(DOCUMENT_FRESH / 6 * SECOND)
    assert sum("well-known" in url for url in site.asked) == 2


@pytest.mark.parametrize(
    ("claims", "role"),
    [
        ({}, "user"),
        ({"roles": "staff"}, "operator"),
        ({"roles": ["x", "staff"]}, "operator"),
        ({"roles": ["looks"]}, "viewer"),
        ({"roles": ["looks", "staff"]}, "operator"),
        ({"roles": ["Staff", "staff ", "x"]}, "user"),
        ({"roles": {"staff": True}}, "user"),
        ({"roles": [["staff"]]}, "user"),
    ],
)
def test_roles(claims: dict[str, Any], role: str) -> None:
    """A role is one of the words that the operator named, in the claim that they named."""
    known = Claims(operators=["staff"], viewers=["looks"])
    assert known.person({"sub": "ada", **claims}).role == role


@pytest.mark.parametrize("name", [None, "", 7, ["ada"], "ada lovelace", "a" * 129, "ada\n", "<ada>"])
def test_who_has_no_name(name: object) -> None:
    """A claim that is no name of a user names nobody."""
    with pytest.raises(NotVouched):
        Claims().person({"sub": name})


def test_an_address_that_was_never_verified() -> None:
    """Where the e-mail address names the user, the issuer must have verified it."""
    known = Claims(user="email")
    assert known.person({"email": "ada@example.org", "email_verified": True}).name == "ada@example.org"
    for verified in (None, False, "true", 1):
        with pytest.raises(NotVouched):
            known.person({"email": "ada@example.org", "email_verified": verified})
