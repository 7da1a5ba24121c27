"""A secret does not print."""

import copy
import json
import pickle
import traceback

import msgspec
import pytest

from oo_vault import Grant, Secret

CANARY = "canary-7f3a"


@pytest.mark.parametrize(
    "show",
    [
        repr,
        str,
        format,
        lambda secret: f"{secret:>40}",
        lambda secret: f"{secret!r}",
        lambda secret: "{} {!r}".format(*[secret] * 2),
        lambda secret: "%s" % secret,  # noqa: UP031  # the old way must not leak either
        lambda secret: repr([secret]),
        lambda secret: str({"a": secret}),
    ],
)
def test_no_way_to_print_shows_it(show) -> None:  # type: ignore[no-untyped-def]  # built-ins and lambdas
    """Whatever turns a secret into text gives `Secret(…)`."""
    shown = show(Secret(CANARY))
    assert CANARY not in shown
    assert "Secret(…)" in shown


@pytest.mark.parametrize(
    "leave",
    [
        lambda secret: secret.__getstate__(),
        json.dumps,
        msgspec.json.encode,
        msgspec.msgpack.encode,
        pickle.dumps,
        vars,
        hash,
        iter,
        len,
        list,
        bytes,
        dir,
    ]
    + [lambda s, p=protocol: pickle.dumps(s, p) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)],
)
def test_no_encoder_takes_it(leave) -> None:  # type: ignore[no-untyped-def]  # built-ins of many shapes
    """JSON, msgspec, pickle, vars and hash refuse a secret, and the refusal does not quote it."""
    try:
        left = leave(Secret(CANARY))
    except TypeError as error:
        left = "".join(traceback.format_exception(error))
    assert CANARY not in str(left)


def test_it_has_no_hash() -> None:
    """A secret is no key of a dict: a hash would be a fingerprint of it."""
    with pytest.raises(TypeError, match="unhashable"):
        hash(Secret(CANARY))


def test_copies_are_the_secret_itself() -> None:
    """A copy, a deep copy and `asdict` give the same object and no text."""
    secret = Secret(CANARY)
    assert copy.copy(secret) is secret
    assert copy.deepcopy(secret) is secret
    grant = Grant(access_token=secret, obtained_at=0)
    assert msgspec.structs.asdict(grant)["access_token"] is secret


def test_traceback_with_locals_shows_nothing() -> None:
    """A crash report that prints every local variable does not show it."""

    def fail(token: Secret, grant: Grant) -> None:
        raise RuntimeError(f"cannot use {token} of {grant}")

    try:
        fail(Secret(CANARY), Grant(access_token=Secret(CANARY), refresh_token=Secret(CANARY), obtained_at=0))
    except RuntimeError as error:
        report = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    assert "Secret(…)" in report
    assert CANARY not in report.replace(f'CANARY = "{CANARY}"', "")


def test_equality() -> None:
    """Secrets are equal when their texts are, also with lone surrogates, and never equal to a text."""
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("\ud800") == Secret("\ud800")
    assert Secret("a") != "a"


def test_only_texts() -> None:
    """What is not a text is refused without being quoted."""
    with pytest.raises(TypeError) as refused:
        Secret(CANARY.encode())  # type: ignore[arg-type]  # that is the point
    assert CANARY not in str(refused.value)


def test_reveal() -> None:
    """The text comes out by its one name."""
    assert Secret(CANARY).reveal() == CANARY
