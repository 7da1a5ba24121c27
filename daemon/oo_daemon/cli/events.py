"""`oo events`: read the outbox."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import aclosing
from typing import Any

import click

from oo_client import Client, Event
from oo_daemon.cli import terminal
from oo_daemon.cli.ask import ask
from oo_daemon.cli.call import Call, json_option, quiet_option
from oo_daemon.cli.terminal import Column

#: As wide as common values, so that the pages of a followed table stay aligned with each other.
COLUMNS = (
    Column(title="Time (UTC)", width=19),
    Column(title="Type", width=18),
    Column(title="Change", width=8),
    Column(title="Subject", width=16),
    Column(title="Title", gives=True),
)
#: Events shown when no limit was given and nothing is followed.
A_SCREENFUL = 100
#: Events asked for at once.
PAGE = 500


@click.command()
@click.option("-f", "--follow", is_flag=True, help="Go on as events come, until Ctrl-C.")
@click.option("--after", metavar="POSITION", help="Read after this position; from the beginning without it.")
@click.option("-n", "--limit", type=click.IntRange(min=1), help=f"Stop after so many; {A_SCREENFUL} unless --follow.")
@click.option("--user", help="Only this user's.")
@click.option("--provider", help="Only from this provider.")
@click.option("--type", "kind", metavar="TYPE", help="Only of this type, such as todoist.task.")
@json_option
@quiet_option
@click.pass_obj
def events(
    call: Call,
    follow: bool,
    after: str | None,
    limit: int | None,
    user: str | None,
    provider: str | None,
    kind: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Read the outbox.

    With --json each event is a line of JSON.
    """

    async def reading(client: Client) -> None:
        left = limit or (None if follow else A_SCREENFUL)
        header = not quiet
        pages = client.pages(after=after, follow=follow, size=min(left or PAGE, PAGE), user=user, provider=provider, type=kind)
        async with aclosing(pages):
            async for page in pages:
                if page.missing and not (as_json or quiet):
                    terminal.note(f"{page.missing} of the positions here have no event any more: erased or expired.")
                shown = page.events[:left]
                if as_json:
                    terminal.show_json_lines(shown)
                else:
                    show_events(shown, header=header)
                header = False
                if left is None:
                    continue
                left -= len(shown)
                if left == 0:
                    if not follow and (page.more or len(shown) < len(page.events)) and not (as_json or quiet):
                        terminal.note(f"There are more: go on with `--after {shown[-1].position}`.")
                    return
        if header and not as_json:
            terminal.show("No events. They appear here when a connection has been synced: `oo sync --all` does it now.")

    ask(call, reading)


def show_events(events: Iterable[Event], *, header: bool = True) -> None:
    """Write events as a table."""
    terminal.show_table(COLUMNS, map(_row, events), header=header)


def _row(event: Event) -> tuple[str, ...]:
    when = event.occurred_at or event.observed_at
    return terminal.moment(when), event.type, event.change, event.subject, title(event.payload)


def title(payload: Mapping[str, Any] | None) -> str:
    """Say in a few words what a payload is: a message of the common vocabulary, or anything else that has a title."""
    match payload:
        case {"title": str() as text, "completed": True}:
            return f"{text} (done)"
        case {"title": str() as text, "cancelled": True}:
            return f"{text} (cancelled)"
        case {"title": str() as text} | {"text": str() as text}:
            return text
        case {"kind": str() as kind, "value": value, **more}:
            return f"{kind} {value} {more.get('unit', '')}".rstrip()
        case {"kind": str() as kind, "category": str() as category}:
            return f"{kind} {category}"
        case {"kind": str() as kind, "durationSeconds": int() | float() as seconds}:
            return f"{kind}, {seconds / 60:.0f} min"
        case {"kind": str() as kind}:
            return kind
        case {"fields": Mapping() as fields}:
            return title(fields) or ", ".join(f"{name}: {value}" for name, value in fields.items() if isinstance(value, str | int))
        case _:
            return ""
