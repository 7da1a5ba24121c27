"""The terminal: the one place for tables, spinners, errors and exit codes.

What was asked for goes to standard output, everything else to standard error.
"""

from __future__ import annotations

import errno
import os
import sys
import traceback
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import IntEnum
from types import MappingProxyType
from typing import Any, Final

import click
import msgspec
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.text import Text

#: The one accent: the link to open, the spinner, the bar.
ACCENT: Final = "cyan"


class Exit(IntEnum):
    """What `oo` ends with; from 69 on as in sysexits.h, so that a unit can tell what cannot heal by itself."""

    OK = 0
    NOT_DONE = 1  #: the thing asked for did not happen
    USAGE = 2  #: the command line makes no sense
    DAEMON_NOT_RUNNING = 69  #: no daemon answers
    CORRUPT = 70  #: the database file is damaged
    PLUGIN_BLOCKS = 72  #: a plugin held up all others: a new start is rid of it
    DISK = 74  #: the disk or the database cannot be read or written
    ALREADY_RUNNING = 75  #: another daemon has the database
    KEYS_UNREACHABLE = 76  #: what keeps the vault's keys cannot be asked; it may be back in a while
    WRONG_KEY = 77  #: the vault's key is missing or another database's
    CONFIGURATION = 78  #: the settings cannot be used, or the program is older than its database
    INTERRUPTED = 130  #: Ctrl-C
    PIPE_CLOSED = 141  #: whoever read the output went away


#: Exit codes of errors, which are named here and not imported: no verb should pay for the packages of another.
EXITS: Final[Mapping[str, Exit]] = MappingProxyType(
    {
        "oo_client.DaemonNotRunning": Exit.DAEMON_NOT_RUNNING,
        "oo_config.ConfigError": Exit.CONFIGURATION,
        "oo_daemon.PluginBlocks": Exit.PLUGIN_BLOCKS,
        "oo_daemon.Corrupt": Exit.CORRUPT,
        "oo_daemon.CannotStore": Exit.DISK,
        "oo_daemon.CannotOpen": Exit.DISK,
        "oo_daemon.NewerSchema": Exit.CONFIGURATION,
        "oo_daemon.AlreadyRunning": Exit.ALREADY_RUNNING,
        "oo_daemon.CannotListen": Exit.CONFIGURATION,
        "oo_vault.KeysUnreachable": Exit.KEYS_UNREACHABLE,
        "oo_vault.WrongKey": Exit.WRONG_KEY,
        "oo_vault.KeyFileRefused": Exit.WRONG_KEY,
        "oo_vault.KeyMistyped": Exit.WRONG_KEY,
        "oo_vault.KeyUnknown": Exit.WRONG_KEY,
    }
)
#: Errors of the system that mean the disk.
DISK_ERRORS: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS})


class NotDone(Exception):
    """The thing asked for did not happen: a sentence, and what to do."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(f"{message}: {remedy}")


# --- errors ---


def end(error: BaseException, *, debug: bool) -> Exit:
    """Tell of an error in a sentence and a remedy, and say with what to exit. Quiet for Ctrl-C and a closed pipe."""
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return Exit.INTERRUPTED
    if isinstance(error, BrokenPipeError):
        # What is still buffered has nowhere to go; the interpreter's last flush would complain about that.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.PIPE_CLOSED
    if not isinstance(error, Exception):
        raise error
    if debug:
        traceback.print_exception(error)
    click.echo("\n".join(plain(line) for line in f"Error: {_sentence(error)}".splitlines()), err=True)
    return _exit(error)


def _sentence(error: Exception) -> str:
    if any(_package(kind).startswith("oo_") for kind in type(error).__mro__):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return f"oo met something it was not written for ({type(error).__name__}): run it again with --debug and report what it shows"


def _exit(error: Exception) -> Exit:
    for kind in type(error).__mro__:
        if (code := EXITS.get(f"{_package(kind)}.{kind.__name__}")) is not None:
            return code
    return Exit.DISK if isinstance(error, OSError) and error.errno in DISK_ERRORS else Exit.NOT_DONE


def _package(kind: type) -> str:
    return kind.__module__.partition(".")[0]


# --- words ---


def plain(text: str) -> str:
    """Make one line that a terminal will not obey: what people wrote elsewhere may hold control characters."""
    return "".join(map(_harmless, text))


def _harmless(letter: str) -> str:
    if letter in "\t\r\n":
        return " "
    # Joiners belong to some scripts and to emoji; the other spaces, such as thin ones, only look different.
    harmless = letter.isprintable() or letter in "\u200c\u200d" or unicodedata.category(letter) == "Zs"
    return letter if harmless else "\ufffd"


def moment(when: datetime | None) -> str:
    """Write a time in UTC, to the second; nothing for None."""
    return "" if when is None else when.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def count(number: int, thing: str) -> str:
    """Write a number of things, with thin separators."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}".replace(",", "\u2009")


def size(count: int) -> str:
    """Write a number of bytes as people do."""
    return f"{count / 1_000_000:,.1f}\u2009MB".replace(",", "\u2009") if count >= 1_000_000 else f"{count / 1000:.0f}\u2009kB"


# --- output ---


def show(text: str) -> None:
    """Write a line of what was asked for."""
    click.echo(plain(text))


def show_link(address: str) -> None:
    """Write what is to be copied or opened, on a line of its own."""
    click.echo(_styled(f"  {plain(address)}", ACCENT))


def show_title(text: str) -> None:
    """Write what the lines below are about."""
    click.echo(_styled(plain(text), f"bold {ACCENT}"))


def show_proof(text: str) -> None:
    """Write something that was found to hold."""
    show(f"  ✓ {text}")


def _styled(text: str, style: str) -> str:
    """Style a line as far as standard output shows styles."""
    console = Console(highlight=False)
    # Not printed by rich, which has its own way of ending when a pipe is closed.
    with console.capture() as styled:
        console.print(Text(text, style=style), soft_wrap=True, end="")
    return styled.get()


def note(text: str) -> None:
    """Write a line beside what was asked for."""
    click.echo(plain(text), err=True)


def show_json(value: Any) -> None:
    """Write a value as JSON, for programs and still readable."""
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2))


def show_json_lines(values: Iterable[Any]) -> None:
    """Write each value as JSON on a line of its own."""
    if lines := b"\n".join(map(msgspec.json.encode, values)):
        click.echo(lines)


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """One column of a table."""

    title: str
    number: bool = False  #: set to the right
    width: int = 0  #: at least so wide, for a table that is written bit by bit
    gives: bool = False  #: is shortened where the terminal is too narrow; never what one copies


GAP: Final = "  "


def show_table(columns: Sequence[Column], rows: Iterable[Sequence[str]], *, header: bool = True) -> None:
    """Write an aligned table."""
    cells = [[plain(cell) for cell in row] for row in rows]
    widths = _widths(columns, cells)
    if header:
        click.echo(_styled(_line(columns, [column.title for column in columns], widths), "bold"))
    if cells:
        click.echo("\n".join(_line(columns, row, widths) for row in cells))


def show_fields(fields: Iterable[tuple[str, str]]) -> None:
    """Write names and values, aligned; a field without a value is left out."""
    said = [(name, plain(value)) for name, value in fields if value]
    width = max((cell_len(name) for name, _ in said), default=0)
    for name, value in said:
        click.echo(f"{set_cell_size(name, width)}{GAP}{value}")


def _widths(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> list[int]:
    widths = [max(column.width, cell_len(column.title), *(cell_len(row[place]) for row in rows), 0) for place, column in enumerate(columns)]
    room = _room()
    if room is not None:
        over = sum(widths) + len(GAP) * (len(widths) - 1) - room
        while over > 0:
            wide = max((place for place, column in enumerate(columns) if column.gives), key=widths.__getitem__, default=None)
            if wide is None or widths[wide] <= _NARROWEST:
                break
            widths[wide] -= 1
            over -= 1
    return widths


#: A column is not made narrower than this, in cells: the terminal may wrap the line instead.
_NARROWEST: Final = 12


def _room() -> int | None:
    """Return how wide a line may be, in cells; None where nothing limits it, as in a file."""
    return Console().width if sys.stdout.isatty() or "COLUMNS" in os.environ else None


def _line(columns: Sequence[Column], cells: Sequence[str], widths: Sequence[int]) -> str:
    return GAP.join(map(_cell, columns, cells, widths)).rstrip()


def _cell(column: Column, text: str, width: int) -> str:
    if cell_len(text) > width:
        return set_cell_size(text, width - 1) + "…"
    return " " * (width - cell_len(text)) + text if column.number else set_cell_size(text, width)


# --- waiting ---


@contextmanager
def waiting(text: str, *, quiet: bool = False) -> Iterator[None]:
    """Show that something is waited for, while it is."""
    console = Console(stderr=True, highlight=False)
    if quiet or not console.is_terminal:
        yield
        return
    with console.status(Text(plain(text)), spinner_style=ACCENT):
        yield


@contextmanager
def progress(text: str, total: int, *, of_bytes: bool = False, quiet: bool = False) -> Iterator[Callable[[int], None]]:
    """Show how much of long work is done: call what it gives with how many more parts, or bytes, are."""
    console = Console(stderr=True, highlight=False)
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(complete_style=ACCENT, finished_style=ACCENT),
        *([DownloadColumn(), TransferSpeedColumn()] if of_bytes else [MofNCompleteColumn()]),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=quiet or not console.is_terminal,
    )
    with bar:
        task = bar.add_task(plain(text), total=total)
        yield lambda parts: bar.advance(task, parts)
