"""The command as a whole: verbs that are loaded when used, errors, exit codes, and how it ends."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import pytest
from client.fake_daemon import FakeDaemon, connection, event
from daemon.cli.conftest import Oo

import oo_config
import oo_daemon
import oo_vault
from oo_client import DaemonNotRunning
from oo_daemon.cli import VERBS, terminal
from oo_daemon.cli.terminal import EXITS, Exit, NotDone
from oo_daemon.store.errors import CannotOpen, CannotStore, Corrupt

Start = Callable[..., subprocess.Popen[bytes]]
BOUND = 30  #: seconds after which a process that does not end is a failure
FOLDER = Path(oo_daemon.__file__).parent / "cli"


def test_help_lists_every_verb(oo: Oo) -> None:
    """`oo --help` shows each verb with its sentence."""
    output = oo("--help").output
    assert all(verb in output and sentence in output for verb, sentence in VERBS.items())


@pytest.mark.parametrize("verb", [name for name in VERBS if (FOLDER / f"{name}.py").exists()])
def test_a_verb_has_a_file_of_its_name(oo: Oo, verb: str) -> None:
    """Each verb is the command of its name in the file of its name, and can explain itself and its options."""
    command = getattr(import_module(f"oo_daemon.cli.{verb}"), verb)
    assert isinstance(command, click.Command)
    assert oo(verb, "--help").exit_code == 0
    for each in (command, *(command.commands.values() if isinstance(command, click.Group) else ())):
        assert each.help
        assert all(option.help for option in each.params if isinstance(option, click.Option))


def test_version(oo: Oo) -> None:
    """`oo --version` tells the version of the distribution."""
    assert oo("--version").output == f"oo, version {oo_daemon.__version__}\n"


@pytest.mark.parametrize("arguments", [["--version"], ["--help"]])
def test_what_is_not_used_is_not_imported(environ: Mapping[str, str], arguments: list[str]) -> None:
    """Version and help are fast: they import no verb, no rich, no aiohttp, no msgspec and none of our packages."""
    code = f"""
import sys
from oo_daemon.cli import oo
try:
    oo({arguments!r})
except SystemExit as end:
    assert end.code == 0
heavy = {{"rich", "aiohttp", "msgspec", "oo_client", "oo_config", "oo_sdk", "oo_vault", "asyncio"}}
verbs = {{f"oo_daemon.cli.{{name}}" for name in {list(VERBS)!r}}}
print(sorted((heavy | verbs) & set(sys.modules)))
"""
    result = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, timeout=BOUND, check=True)
    assert result.stdout.splitlines()[-1] == "[]"


def test_an_unknown_verb(oo: Oo) -> None:
    """A verb that does not exist makes no sense, which is exit code 2."""
    result = oo("frobnicate")
    assert result.exit_code == 2
    assert "No such command 'frobnicate'" in result.stderr


@pytest.mark.parametrize("line", ["connections", "sync --all", "events", "connect todoist --user ada", "registration list"])
def test_no_daemon(oo: Oo, tmp_path: Path, line: str) -> None:
    """Without a daemon every verb that needs one ends with 69, one sentence and the command that helps."""
    result = oo(*line.split())
    assert (result.exit_code, result.stdout) == (69, "")
    assert result.stderr == f"Error: no daemon answers at {tmp_path}/oo.sock: start it with `oo run`\n"


def test_debug_shows_the_traceback(oo: Oo) -> None:
    """With --debug there is a traceback besides; the exit code stays."""
    result = oo("--debug", "connections")
    assert result.exit_code == 69
    assert "Traceback (most recent call last)" in result.stderr
    assert result.stderr.endswith("start it with `oo run`\n")


KEY = ("a sentence.", "A remedy.")


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (NotDone("it did not happen", "do this"), Exit.NOT_DONE, "it did not happen: do this"),
        (DaemonNotRunning("nobody there", "start it"), Exit.DAEMON_NOT_RUNNING, "nobody there: start it"),
        (Corrupt("The database is damaged."), Exit.CORRUPT, "The database is damaged."),
        (CannotStore("The disk is full."), Exit.DISK, "The disk is full."),
        (CannotOpen("It is another program's."), Exit.DISK, "It is another program's."),
        (OSError(28, "No space left on device", "/x"), Exit.DISK, "/x: No space left on device"),
        (PermissionError(13, "Permission denied", "/x"), Exit.NOT_DONE, "/x: Permission denied"),
        (oo_vault.WrongKey(*KEY), Exit.WRONG_KEY, "a sentence. A remedy."),
        (oo_vault.KeyFileRefused(*KEY), Exit.WRONG_KEY, "a sentence. A remedy."),
        (oo_vault.KeyMistyped(*KEY), Exit.WRONG_KEY, "a sentence. A remedy."),
        (oo_vault.KeyUnknown(*KEY), Exit.WRONG_KEY, "a sentence. A remedy."),
        (oo_vault.KeyFileExists(*KEY), Exit.NOT_DONE, "a sentence. A remedy."),
        (
            oo_config.ConfigError((oo_config.Problem(place="OO_X", sentence="It is odd.", remedy="Mend it."),)),
            Exit.CONFIGURATION,
            "OO_X: It is odd. Mend it.",
        ),
        (
            ValueError("s3cret-canary"),
            Exit.NOT_DONE,
            "oo met something it was not written for (ValueError): run it again with --debug and report what it shows",
        ),
        (NotDone("\x1b[31mred\x07", "\nx"), Exit.NOT_DONE, "\ufffd[31mred\ufffd: \nx"),
        (KeyboardInterrupt(), Exit.INTERRUPTED, None),
        (click.Abort(), Exit.INTERRUPTED, None),
    ],
    ids=lambda it: type(it).__name__ if isinstance(it, BaseException) else None,
)
def test_exit_codes(error: BaseException, code: Exit, says: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    """Each error ends in its exit code and its own words; what nobody foresaw shows none of its text."""
    assert terminal.end(error, debug=False) is code
    assert capsys.readouterr() == ("", "" if says is None else f"Error: {says}\n")


def test_every_error_with_an_exit_code_exists() -> None:
    """The table of exit codes names errors by name; each of them is there."""
    import oo_client
    from oo_daemon import strikes
    from oo_daemon.ingress import server
    from oo_daemon.store import errors

    homes: dict[str, list[object]] = {"oo_daemon": [errors, server, strikes]}
    homes |= {module.__name__: [module] for module in (oo_client, oo_config, oo_vault)}
    for name in EXITS:
        package, _, kind = name.partition(".")
        assert any(issubclass(getattr(home, kind, int), Exception) for home in homes[package]), name


def test_ctrl_c_is_quiet(daemon: FakeDaemon, start: Start) -> None:
    """Ctrl-C while waiting ends with 130 and without a word."""
    process = start("connect", "todoist", "--user", "ada", "--quiet")
    assert process.stdout is not None
    assert process.stdout.readline().startswith(b"http://127.0.0.1:8710/connect/")
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=BOUND) == (b"", b"")
    assert process.returncode == 130


def test_a_closed_pipe_is_quiet(daemon: FakeDaemon, start: Start) -> None:
    """When whoever reads the output goes away, the command ends without a word."""
    daemon.events = [event(number) for number in range(1, 501)]
    process = start("events", "--limit", "500", "--json")
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline().startswith(b'{"position":"1-1"')
    process.stdout.close()
    assert process.wait(BOUND) == 141
    assert process.stderr.read() == b""


@pytest.mark.parametrize("line", ["connections", "events --json", "config example", "connect todoist --user ada --no-wait"])
def test_a_pipe_closed_from_the_start_is_quiet(daemon: FakeDaemon, start: Start, line: str) -> None:
    """Also little output, which fits a buffer, ends without a word when nobody reads it."""
    daemon.connections, daemon.events = [connection()], [event(1)]
    reader, writer = os.pipe()
    os.close(reader)
    process = start(*line.split(), stdout=writer)
    os.close(writer)
    assert process.stderr is not None
    assert (process.wait(BOUND), process.stderr.read()) == (141, b"")


def test_follow_shows_events_as_they_come(daemon: FakeDaemon, start: Start) -> None:
    """A follower in a pipe gets each event at once, not when a buffer is full."""
    process = start("events", "--follow", "--json")
    assert process.stdout is not None
    for number in range(1, 4):
        daemon.add(event(number))
        assert f'"position":"1-{number}"'.encode() in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert process.wait(BOUND) == 130


def _at_a_terminal(start: Start, *arguments: str, **options: Any) -> bytes:
    """Run the command with its output at a pseudo-terminal, and give what appears there."""
    ours, theirs = pty.openpty()
    try:
        process = start(*arguments, stdout=theirs, stderr=theirs, **options)
        os.close(theirs)
        seen = b""
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:  # how Linux says that the other side was closed
                break
            if not part:
                break
            seen += part
        process.wait(BOUND)
    finally:
        os.close(ours)
    return seen


@pytest.mark.parametrize(
    ("more", "styled"), [({"TERM": "xterm"}, True), ({"TERM": "xterm", "NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]
)
def test_colour_only_where_it_is_wanted(
    daemon: FakeDaemon, start: Start, environ: Mapping[str, str], more: dict[str, str], styled: bool
) -> None:
    """The accent appears at a terminal, and not with NO_COLOR or on a dumb one."""
    seen = _at_a_terminal(start, "connect", "todoist", "--user", "ada", "--no-wait", environ={**environ, **more})
    assert b"http://127.0.0.1:8710/connect/one-use" in seen
    assert (b"\x1b[36m" in seen) is styled


def test_no_escape_outside_a_terminal(daemon: FakeDaemon, start: Start, environ: Mapping[str, str]) -> None:
    """Into a pipe or a file nothing is styled."""
    daemon.connections = [connection()]
    out, err = start("connections", environ={**environ, "TERM": "xterm"}).communicate(timeout=BOUND)
    assert b"\x1b" not in out + err
    assert b"c-7f3a" in out


def test_a_table_in_a_pipe_is_not_shortened(daemon: FakeDaemon, start: Start, environ: Mapping[str, str]) -> None:
    """Without a terminal nothing is cut off, since a program may read it."""
    daemon.connections = [connection(user="u" * 200)]
    without = {name: value for name, value in environ.items() if name != "COLUMNS"}
    out, _ = start("connections", environ=without).communicate(timeout=BOUND)
    assert b"u" * 200 in out


def test_the_secret_is_asked_for_without_showing_it(daemon: FakeDaemon, start: Start) -> None:
    """At a terminal the client secret is typed unseen, and is in neither the output nor the arguments of the process."""
    ours, theirs = pty.openpty()
    try:
        process = start(
            "registration", "add", "todoist", "--client-id", "a1b2c3", "--json", stdin=theirs, stderr=theirs, start_new_session=True
        )
        os.close(theirs)
        seen = b""
        # The prompt's last blank comes when the echo is already off.
        while not seen.endswith(b"Client secret: "):
            seen += os.read(ours, 1024)
        arguments = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        os.write(ours, b"s3cret-canary\n")
        assert process.stdout is not None
        output = process.stdout.read()
        assert process.wait(BOUND) == 0
        with contextlib.suppress(OSError):
            seen += os.read(ours, 4096)
    finally:
        os.close(ours)
    assert daemon.asked("POST /v1/registrations")[0].body["client_secrets"] == ["s3cret-canary"]
    assert b"s3cret" not in seen + output + arguments


def test_the_installed_command_is_this_one() -> None:
    """The entry point of the distribution is `main`."""
    import configparser

    setup = Path(__file__).parents[3] / "setup.cfg"
    parser = configparser.ConfigParser()
    parser.read_string(setup.read_text("utf-8"))
    assert "oo = oo_daemon.cli:main" in parser["options.entry_points"]["console_scripts"]
