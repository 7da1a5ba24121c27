"""Signatures: which fit, and that no bytes break the check."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oo_daemon.connections import verify
from oo_sdk import HmacScheme
from oo_vault import Secret

REALDATA = Path(__file__).parents[3].parent / "shared" / "realdata"
VECTORS = REALDATA / "vectors" / "webhook_signatures.json"
HEX = HmacScheme(header="x-sign", prefix="sha256=")
BASE64 = HmacScheme(header="x-sign", encoding="base64")
NEW, OLD = Secret("new secret"), Secret("old sécret")


def sign(secret: Secret, body: bytes, *, encoding: str = "hex") -> str:
    digest = hmac.digest(secret.reveal().encode(), body, hashlib.sha256)
    return f"sha256={digest.hex()}" if encoding == "hex" else base64.b64encode(digest).decode()


def fits(scheme: HmacScheme, *presented: str, secrets: tuple[Secret, ...] = (NEW,), bodies: tuple[bytes, ...] = (b"body",)) -> bool:
    return verify.fits(scheme, secrets, presented, bodies)


@pytest.mark.parametrize("scheme", [HEX, BASE64], ids=["hex", "base64"])
def test_a_good_signature_fits(scheme: HmacScheme) -> None:
    """In the scheme's own spelling, hexadecimal digits small or large, with blanks around it."""
    good = sign(NEW, b"body", encoding=scheme.encoding)
    assert fits(scheme, good)
    assert fits(scheme, f" {good}\t")
    assert fits(HEX, "sha256=" + sign(NEW, b"body").removeprefix("sha256=").upper())


def test_any_secret_and_any_body_will_do() -> None:
    """While secrets are changed both are taken, whichever comes first; a signature may be over either form of the body."""
    for secrets in ((NEW, OLD), (OLD, NEW)):
        assert fits(HEX, sign(OLD, b"body"), secrets=secrets)
        assert fits(HEX, sign(NEW, b"body"), secrets=secrets)
    assert fits(HEX, sign(NEW, b"packed"), bodies=(b"packed", b"body"))
    assert fits(HEX, sign(NEW, b"body"), bodies=(b"packed", b"body"))
    assert fits(HEX, "sha256=00", sign(NEW, b"body"))


@pytest.mark.parametrize(
    "presented",
    [
        (),
        ("",),
        ("sha256=",),
        (sign(OLD, b"body"),),
        (sign(NEW, b"body "),),
        (sign(NEW, b"body").removeprefix("sha256="),),
        (sign(NEW, b"body").replace("sha256=", "sha1="),),
        (sign(NEW, b"body")[:-1],),
        (sign(NEW, b"body")[:-2],),
        (sign(NEW, b"body") + "00",),
        ("sha256=ä",),
        ("sha256=\udcff",),
        (sign(NEW, b"body", encoding="base64"),),
    ],
)
def test_a_bad_one_does_not(presented: tuple[str, ...]) -> None:
    """None, half of one, one with another secret, over other bytes or in another spelling."""
    assert not fits(HEX, *presented)


def test_nothing_fits_without_a_secret() -> None:
    """Where there is no secret, not even the signature of an empty one is taken."""
    assert not fits(HEX, sign(Secret(""), b"body"), secrets=())
    assert not fits(HEX, secrets=())


def test_every_combination_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """How much is compared does not depend on what fits."""
    compared: list[bytes] = []
    real = verify._same

    def same(signature: bytes, wanted: bytes) -> bool:
        compared.append(wanted)
        return real(signature, wanted)

    monkeypatch.setattr(verify, "_same", same)
    for first in (sign(NEW, b"a"), "sha256=00", ""):
        compared.clear()
        fits(HEX, first, sign(OLD, b"b"), secrets=(NEW, OLD), bodies=(b"a", b"b"))
        assert len(compared) == 8


@given(
    st.lists(st.text() | st.binary().map(lambda data: data.decode("utf-8", "surrogateescape")), max_size=3),
    st.binary(),
    st.sampled_from([HEX, BASE64]),
)
def test_any_bytes_are_fitting_or_not(presented: list[str], body: bytes, scheme: HmacScheme) -> None:
    """No header and no body make the check raise, and none of them fits by chance."""
    assert not fits(scheme, *presented, bodies=(body,))


def vectors() -> list[dict[str, Any]]:
    """Those that a plain keyed hash of the body can hold."""
    if not VECTORS.exists():
        return []
    plain = {"github", "shopify", "linear", "todoist", "dropbox", "meta"}
    return [each for each in json.loads(VECTORS.read_text())["vectors"] if each["provider"] in plain]


@pytest.mark.skipif(not VECTORS.exists(), reason="the recorded signatures are not on this machine")
@pytest.mark.parametrize("vector", vectors(), ids=lambda it: str(it["provider"]))
def test_recorded_signatures_fit(vector: dict[str, Any]) -> None:
    """Signatures that providers published or that their own code makes are taken, and with one bit changed are not."""
    body = (REALDATA / vector["body_file"]).read_bytes() if "body_file" in vector else vector["body"].encode()
    signature: str = vector["signature"]
    prefix = "sha256=" if signature.startswith("sha256=") else ""
    encoding = "base64" if signature.endswith("=") else "hex"
    scheme = HmacScheme(header=vector["header"], encoding="base64" if encoding == "base64" else "hex", prefix=prefix)
    assert verify.fits(scheme, [Secret(vector["secret"])], [signature], [body])
    assert not verify.fits(scheme, [Secret(vector["secret"])], [signature], [bytes([body[0] ^ 1]) + body[1:]])
