"""Logs: one line for each thing that happened, and never a secret in it."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import logging
import string
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote, urlencode

import pytest
import structlog
from daemon.virtual import Notes
from hypothesis import given
from hypothesis import strategies as st

from oo_daemon.ops import log
from oo_daemon.ops.live import MOST, Live
from oo_daemon.ops.log import redact
from oo_vault import Secret, watch_secrets

GONE = "[redacted]"


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers[:], root.level, logging.raiseExceptions
    yield
    watch_secrets(None)
    structlog.reset_defaults()
    root.handlers[:], root.level, logging.raiseExceptions = before


class Out(io.StringIO):
    """A stream that a test reads."""

    def __init__(self, *, terminal: bool = False, charset: str = "utf-8") -> None:
        super().__init__()
        self.terminal = terminal
        self.charset = charset

    @property
    def encoding(self) -> str:  # type: ignore[override]  # StringIO has none
        return self.charset

    def isatty(self) -> bool:
        return self.terminal

    def write(self, text: str) -> int:
        text.encode(self.charset)
        return super().write(text)

    def lines(self) -> list[str]:
        return self.getvalue().splitlines()

    def last(self) -> dict[str, Any]:
        """The last line, without its time."""
        line: dict[str, Any] = json.loads(self.lines()[-1])
        assert line.pop("timestamp").endswith("Z")
        return line


def configured(**settings: Any) -> Out:
    out = settings.pop("out", None) or Out()
    log.configure(stream=out, **settings)
    return out


# --- form ------------------------------------------------------------------------------------------------------------


def test_json() -> None:
    """Where nobody looks on, a line is one JSON object with the time in UTC, the level, and the fields as they are."""
    out = configured()
    log.logger(connection="4f2a", provider="acme").info("sync_ended", events=3, late=None, share=0.5, done=True)
    line = {"event": "sync_ended", "level": "info", "connection": "4f2a", "provider": "acme"}
    assert out.last() == {**line, "events": 3, "late": None, "share": 0.5, "done": True}


def test_a_logger_that_is_made_when_something_is_said() -> None:
    """What most never use is made with the first line, once."""
    made = 0

    def make() -> Notes:
        nonlocal made
        made += 1
        return notes

    notes = Notes()
    lazy = log.Lazy(make)
    assert made == 0
    lazy.debug("a", x=1)
    lazy.info("b")
    lazy.warning("c", y=2)
    assert made == 1
    assert notes.lines == [("debug", "a", {"x": 1}), ("info", "b", {}), ("warning", "c", {"y": 2})]


def test_console() -> None:
    """On a terminal a line is for people, in colour."""
    out = configured(out=Out(terminal=True))
    log.logger(provider="acme").warning("sync_lost_lease")
    (line,) = out.lines()
    assert "sync_lost_lease" in line
    assert "\033[" in line


def test_console_in_a_file() -> None:
    """Asked for in a file, the console's form has no colours in it."""
    out = configured(style="console")
    log.logger(provider="acme").warning("sync_lost_lease")
    (line,) = out.lines()
    assert line.endswith("provider=acme")
    assert "\033" not in line


@pytest.mark.parametrize(("level", "said"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_levels(level: str, said: int) -> None:
    """What is below the level is not written."""
    out = configured(level=level)
    logger = log.logger()
    for say in (logger.debug, logger.info, logger.warning, logger.error):
        say("event")
    assert len(out.lines()) == said


@pytest.mark.parametrize("style", ["json", "console"])
def test_one_line(style: Any) -> None:
    """Nothing that is logged can begin another line, or speak to the terminal."""
    out = configured(style=style)
    log.logger().info("event", reason='first\nevent="forged" level=error\r\x1b[31m', name="\u2028")
    assert len(out.getvalue().splitlines()) == 1
    assert "\x1b" not in out.getvalue()


@pytest.mark.parametrize("style", ["json", "console"])
def test_what_the_stream_cannot_say(style: Any) -> None:
    """Characters that the stream does not know are spelled out, and half characters too."""
    out = configured(style=style, out=Out(charset="ascii"))
    log.logger().info("event", name="Zoë \ud800")
    assert "Zo" in out.getvalue()


def test_odd_values() -> None:
    """Whatever is given as a field, a line is written."""

    class Odd:
        def __repr__(self) -> str:
            raise ValueError("my diary")

    deep: list[Any] = []
    deep.append(deep)
    out = configured()
    odd = {"odd": Odd(), "body": b"my diary", "fault": OSError("my diary"), "stack": 3, "exception": 4}
    log.logger().info("event", at={1: ("a", {2})}, deep=deep, nan=float("nan"), long="x y " * 9999, **odd)
    line = out.last()
    assert (line["odd"], line["body"], line["fault"], line["at"], line["nan"]) == ("Odd", "8 bytes", "OSError", {"1": ["a", [2]]}, "nan")
    assert (line["stack_"], line["exception_"]) == (3, 4)
    assert line["deep"] == [[[[["…"]]]]]
    assert len(line["long"]) < 5000
    assert "diary" not in out.getvalue()


# --- other libraries -------------------------------------------------------------------------------------------------


def test_others_from_warnings_on() -> None:
    """What other libraries say below a warning is dropped, even by loggers that were set lower."""
    out = configured(level="debug")
    other = logging.getLogger("some.library")
    other.setLevel(logging.DEBUG)
    other.debug("debug")
    other.info("info")
    assert out.lines() == []
    other.warning("slow: %s s", 3)
    assert out.last() == {"event": "slow: 3 s", "level": "warning", "logger": "some.library"}


def test_what_is_raised_is_not_warned_of_besides() -> None:
    """What the library of PostgreSQL warns of comes after an error that it raises: of that we tell ourselves."""
    out = configured()
    logging.getLogger("psycopg").warning("error ignored terminating <psycopg.Pipeline [BAD] at 0x7f>: the connection is lost")
    assert out.lines() == []


def test_others_on_a_terminal() -> None:
    """Other libraries' warnings have the same form on a terminal."""
    out = configured(style="console")
    logging.getLogger("some.library").error("slow")
    (line,) = out.lines()
    assert "slow" in line
    assert "error" in line


def test_only_the_first_line_of_others() -> None:
    """Of what other libraries say the first line is kept: in the next they quote exceptions and what they were given."""
    out = configured()
    logging.getLogger("some.library").warning(
        "Task failed\nfuture: <Task exception=ValueError('my diary')>", extra={"body": "my diary"}, stack_info=True
    )
    assert out.last() == {"event": "Task failed", "level": "warning", "logger": "some.library"}


def test_a_call_with_wrong_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    """A library's call whose arguments do not fit its message does not print them."""
    configured()
    logging.getLogger("some.library").warning("%d", "my diary")
    assert "diary" not in capsys.readouterr().err


async def test_what_asyncio_says() -> None:
    """Of a failed task that nobody waited for, only kind and place of the error are told."""
    out = configured()

    async def fail() -> None:
        raise ValueError("my diary")

    task = asyncio.ensure_future(fail())
    await asyncio.wait({task})
    del task
    line = out.last()
    assert (line["event"], line["logger"], line["level"]) == ("Task exception was never retrieved", "asyncio", "error")
    assert line["fault"][0].startswith("ValueError at ops/test_log.py:")
    assert "diary" not in out.getvalue()


# --- exceptions ------------------------------------------------------------------------------------------------------


def failing() -> Exception:
    try:
        try:
            raise KeyError("my token hunter2")
        except KeyError as cause:
            raise OSError("my diary") from cause
    except OSError as error:
        return error


@pytest.mark.rows("C9")
@pytest.mark.parametrize("style", ["json", "console"])
@pytest.mark.parametrize("how", ["instance", "tuple", "true", "exception", "others"])
def test_an_exception(style: Any, how: str) -> None:
    """Of an exception its kind and place are told, and of what it came of; not what it says."""
    out = configured(style=style)
    error = failing()
    logger = log.logger()
    if how == "instance":
        logger.warning("failed", exc_info=error)
    elif how == "tuple":
        logger.warning("failed", exc_info=(type(error), error, error.__traceback__))
    else:
        try:
            raise error
        except OSError:
            if how == "true":
                logger.warning("failed", exc_info=True)
            elif how == "exception":
                logger.exception("failed")
            else:
                logging.getLogger("some.library").exception("failed")
    said = out.getvalue()
    assert "OSError at ops/test_log.py:" in said
    assert "KeyError at ops/test_log.py:" in said
    assert "diary" not in said
    assert "hunter2" not in said


def test_no_exception() -> None:
    """Asked for an exception where there is none, a line is written all the same."""
    out = configured()
    log.logger().warning("failed", exc_info=True)
    log.logger().warning("failed", exc_info=False)
    assert [json.loads(line).get("fault") for line in out.lines()] == ["none", None]


# --- secrets ---------------------------------------------------------------------------------------------------------


@pytest.mark.rows("C9")
@pytest.mark.parametrize(
    ("text", "becomes"),
    [
        ("Authorization: Bearer abc.def-123", f"Authorization: {GONE}"),
        ("authorization: Digest username=ada, response=1", f"authorization: {GONE}"),
        ("{'Authorization': 'Basic YWRhOmh1bnRlcjI='}", f"{{'Authorization': '{GONE}'}}"),
        ("('Authorization', 'Token abcdef')", f"('Authorization', '{GONE}')"),
        ("sent bearer abcdefgh12 to it", f"sent bearer {GONE} to it"),
        ("Set-Cookie: session=ab; Path=/", f"Set-Cookie: {GONE}"),
        ("https://a.example/cb?code=abcdef&state=ghijkl&x=1", f"https://a.example/cb?code={GONE}&state={GONE}&x=1"),
        ("https://a.example/?access_token=abc&page=2", f"https://a.example/?access_token={GONE}&page=2"),
        ("next=%2F%3Ftoken%3Dabcdef", f"next=%2F%3Ftoken%3D{GONE}"),
        ("https://ada:hunter2@a.example/", f"https://{GONE}@a.example/"),
        ('{"refresh_token": "abcdef", "expires_in": 3600}', f'{{"refresh_token": "{GONE}", "expires_in": 3600}}'),
        ('"{\\"id_token\\":\\"abcdef\\"}"', f'"{{\\"id_token\\":\\"{GONE}\\"}}"'),
        (
            "grant_type=refresh_token&refresh_token=abcdef&client_secret=ghi",
            f"grant_type=refresh_token&refresh_token={GONE}&client_secret={GONE}",
        ),
        ("code=abcdef&code_verifier=ghijkl", f"code={GONE}&code_verifier={GONE}"),
        ("{'client_secret': b'abcdef'}", f"{{'client_secret': b'{GONE}'}}"),
        ("X-Api-Key: abcdef", f"X-Api-Key: {GONE}"),
        ("api_key=abcdef", f"api_key={GONE}"),
        ("password = hunter2", f"password = {GONE}"),
        ("POST /webhooks/c2VjcmV0LXRva2VuLTEy 404", f"POST /webhooks/{GONE} 404"),
        ("key oo1-abcde-fghij-klmno", f"key {GONE}"),
        ("eyJhbGciOiJI.eyJzdWIiOiIx.c2ln", GONE),
        ("1f" * 16, GONE),
    ],
)
def test_what_looks_like_a_credential(text: str, becomes: str) -> None:
    """What looks like a credential is blotted out, and what stands around it stays."""
    assert redact(text) == becomes
    assert redact(becomes) == becomes


@pytest.mark.parametrize(
    "text",
    [
        "the provider asks us to come back later",
        'add "acme-notes" to plugins.enabled to load it',
        "/var/lib/oo-integrations/outbox_and_vault_of_the_hub.sqlite3",
        "https://api.acme.example/v1/changes?cursor=12&page=2",
        "exit code: 70; state: done",
        "the_connector_that_nobody_has_ever_written_yet",
        "2026-05-04T12:00:00.250001Z",
        "the token was refused: sign in again",
        "acme declares no way to revoke: give auth.revoke an address, or write revoke()",
        "sqlite 3.51.3, oo-integrations 0.1.0",
    ],
)
def test_what_does_not(text: str) -> None:
    """Sentences, paths, addresses and times stay readable."""
    assert redact(text) == text


def test_fields_whose_name_says_it() -> None:
    """A field named like a credential is blotted out whatever it holds, also within others; one that only counts them too."""
    out = configured()
    log.logger().info("event", token="a", Authorization=7, headers={"Cookie": ["a"], "accept": "b"}, client_secrets=["a"], detail="b")
    line = out.last()
    assert (line["token"], line["Authorization"], line["client_secrets"], line["detail"]) == (GONE, GONE, GONE, "b")
    assert line["headers"] == {"Cookie": GONE, "accept": "b"}


#: Secrets of the kinds that are met: at least 128 bits, as hex or base64url.
keys = st.binary(min_size=24, max_size=64).map(
    lambda seed: base64.urlsafe_b64encode(seed.hex().encode()[:16] + seed).decode().rstrip("=")
) | st.binary(min_size=16, max_size=32).map(lambda seed: "0" + seed.hex()[1:])
#: Secrets of any look, where something beside them says what they are.
anything = st.text(string.ascii_letters + string.digits + "-._~+/=", min_size=8, max_size=60)


class Named:
    """An object whose representation quotes what it holds."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return f"Named({self.text!r})"


#: Where a field's value may be: (logger, secret) → a line.
PLACES: dict[str, Callable[[Any, str], None]] = {
    "message": lambda logger, secret: logger.info(f"got {secret} from it"),
    "field": lambda logger, secret: logger.info("event", note=f"got {secret}"),
    "alone": lambda logger, secret: logger.info("event", note=secret),
    "name": lambda logger, secret: logger.info("event", **{secret: 1}),
    "nested": lambda logger, secret: logger.info("event", note={"a": [{"b": (secret,)}], secret: 1}),
    "object": lambda logger, secret: logger.info("event", note=Named(secret)),
    "bytes": lambda logger, secret: logger.info("event", note=secret.encode()),
    "exception": lambda logger, secret: logger.warning("event", exc_info=OSError(secret), fault=OSError(secret)),
    "other's message": lambda logger, secret: logging.getLogger("x").warning(f"got {secret}"),
    "other's argument": lambda logger, secret: logging.getLogger("x").warning("got %r", {"note": secret}),
    "other's extra": lambda logger, secret: logging.getLogger("x").warning("event", extra={"note": secret}),
    "other's exception": lambda logger, secret: logging.getLogger("x").warning("event", exc_info=OSError(secret)),
}


@pytest.mark.rows("C9")
@pytest.mark.parametrize("style", ["json", "console"])
@pytest.mark.parametrize("place", PLACES)
@given(secret=keys)
def test_no_key_in_any_field(style: Any, place: str, secret: str) -> None:
    """A random key does not come out, wherever in a line it is, as it is or encoded for an address or in base64."""
    out = configured(style=style)
    for form in (secret, quote(secret), base64.urlsafe_b64encode(secret.encode()).decode()):
        PLACES[place](log.logger(), form)
        assert form not in out.getvalue()
    assert out.lines()


CONTEXTS: dict[str, Callable[[str], str]] = {
    "header": lambda secret: f"Authorization: Bearer {secret}",
    "scheme": lambda secret: f"sent Bearer {secret}",
    "headers": lambda secret: repr({"Authorization": f"Bearer {secret}"}),
    "query": lambda secret: f"GET https://a.example/x?page=1&access_token={quote(secret, safe='')}&y=2",
    "raw query": lambda secret: f"GET https://a.example/x?page=1&access_token={secret}",
    "callback": lambda secret: f"/oauth/a/callback?code={quote(secret, safe='')}&state=1",
    "form": lambda secret: urlencode({"grant_type": "refresh_token", "refresh_token": secret}),
    "json": lambda secret: json.dumps({"access_token": secret, "expires_in": 3600}),
    "json in json": lambda secret: json.dumps({"body": json.dumps({"access_token": secret})}),
    "python": lambda secret: repr({"client_secret": secret}),
    "bytes": lambda secret: repr({"client_secret": secret.encode()}),
    "user information": lambda secret: f"https://ada:{quote(secret, safe='')}@a.example/",
}


@pytest.mark.rows("C9")
@pytest.mark.parametrize("context", CONTEXTS)
@given(secret=anything)
def test_no_secret_where_it_is_named(context: str, secret: str) -> None:
    """A secret of any look does not come out where a header, an address, a form or JSON says what it is."""
    said = redact(CONTEXTS[context](f"s3_{secret}"))
    assert f"s3_{secret}" not in said
    assert quote(f"s3_{secret}", safe="") not in said


#: How a secret may be spelled where it should not be.
SPELLED: dict[str, Callable[[str], str]] = {
    "as it is": lambda secret: secret,
    "quoted": lambda secret: quote(secret, safe=""),
    "in a form": lambda secret: urlencode({"x": secret}),
    "in JSON": lambda secret: json.dumps({"x": secret}),
    "printed": lambda secret: repr({"x": secret}),
    "in Basic": lambda secret: base64.b64encode(f"id:{secret}".encode()).decode(),
    "in base64url": lambda secret: base64.urlsafe_b64encode(f"x{secret}.".encode()).decode(),
    "at a third place": lambda secret: base64.b64encode(f"xx{secret}yy".encode()).decode(),
    "in hex": lambda secret: secret.encode().hex(),
}


#: Of any look, but for what each quotation would quote once more.
looks = st.text([letter for letter in string.ascii_letters + string.digits + string.punctuation if letter not in "'\"\\"], min_size=12)


@pytest.mark.rows("C9")
@pytest.mark.parametrize("style", ["json", "console"])
@pytest.mark.parametrize("place", PLACES)
@given(secret=looks, spelled=st.sampled_from([*SPELLED]))
def test_no_live_secret_in_any_field(style: Any, place: str, secret: str, spelled: str) -> None:
    """A secret that the process works with does not come out, whatever it looks like, wherever in a line and however it is spelled."""
    out = configured(style=style)
    Secret(secret)
    form = SPELLED[spelled](secret)
    PLACES[place](log.logger(), form)
    said = out.getvalue()
    assert out.lines()
    cores = {secret, quote(secret, safe=""), json.dumps(secret)[1:-1], repr(secret)[1:-1], secret.encode().hex(), form[6:-6]}
    assert not any(core in said for core in cores if len(core) >= 12)


@pytest.mark.rows("C9")
def test_only_the_latest_secrets_are_known() -> None:
    """Memory is bounded: what was met long ago, and what is too short to tell from a word, is no longer looked for by its value."""
    live = Live()
    for number in range(3 * MOST):
        live.add(f"secret-number-{number}-")
    live.add("short")
    assert live.blot(f"secret-number-{3 * MOST - 1}- short secret-number-1-", "…") == "… short secret-number-1-"
    assert len(live._spelled) == MOST
    live.add(f"secret-number-{3 * MOST - 1}-")
    assert sum(map(len, live._by_head.values())) < 20 * MOST


def test_a_log_that_is_set_up_anew_knows_no_secrets() -> None:
    """What an earlier log of this process blotted out may be a word to a later one, such as the name of an event."""
    configured()
    Secret("schema_not_backed_up")
    log.logger().info("schema_not_backed_up")
    out = configured()
    log.logger().info("schema_not_backed_up")
    assert out.last()["event"] == "schema_not_backed_up"
    Secret("another secret word")
    log.logger().info("another secret word")
    assert out.last()["event"] == GONE


@given(text=st.text())
def test_redacting_takes_any_text(text: str) -> None:
    """Any text can be looked through, and a second look changes nothing more."""
    assert redact(redact(text)) == redact(text)
