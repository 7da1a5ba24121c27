"""`oo connections`: what is connected, and how it does."""

from __future__ import annotations

import shlex

import click
import msgspec

from oo_client import CallsLeft, Client, Connection, Details, Revocation, Run, Subscription, Timetable
from oo_daemon.cli import terminal
from oo_daemon.cli.ask import ask
from oo_daemon.cli.call import Call, json_option
from oo_daemon.cli.reap import reap
from oo_daemon.cli.terminal import Column

COLUMNS = (
    Column(title="Connection"),
    Column(title="User", gives=True),
    Column(title="Provider"),
    Column(title="Account", gives=True),
    Column(title="State"),
    Column(title="Last sync (UTC)"),
    Column(title="Outcome"),
    Column(title="Events", number=True),
)

USES = (Column(title="Hour from (UTC)"), Column(title="Host", gives=True), Column(title="Uses", number=True))


RUNS = (
    Column(title="Last syncs (UTC)"),
    Column(title="Outcome"),
    Column(title="Seconds", number=True),
    Column(title="Calls", number=True),
    Column(title="Events", number=True),
    Column(title="Detail", gives=True),
)
MINUTE = 60.0


@click.group(invoke_without_command=True)
@click.option("--user", help="Only this user's.")
@click.option("--provider", help="Only those at this provider.")
@json_option
@click.pass_context
def connections(ctx: click.Context, user: str | None, provider: str | None, as_json: bool) -> None:
    """List connections, or show one."""
    if ctx.invoked_subcommand is not None:
        return
    found = ask(ctx.find_object(Call) or ctx.fail("no call"), lambda client: client.connections(user=user, provider=provider))
    if as_json:
        terminal.show_json({"connections": found})
    elif found:
        terminal.show_table(COLUMNS, map(_row, found))
    elif user or provider:
        terminal.show("No connection matches.")
    else:
        terminal.show("Nobody has connected anything yet. `oo connect PROVIDER --user USER` makes a link for it.")


connections.add_command(reap)


@connections.command()
@click.argument("connection")
@json_option
@click.pass_obj
def show(call: Call, connection: str, as_json: bool) -> None:
    """Show one connection."""

    async def looking(client: Client) -> tuple[Connection, Details]:
        return await client.connection(connection), await client.details(connection)

    found, details = ask(call, looking)
    if as_json:
        terminal.show_json({**msgspec.to_builtins(found), "details": details})
        return
    last, revocation = found.last_sync, found.revocation
    terminal.show_fields(
        [
            ("Connection", found.id),
            ("User", found.user),
            ("Provider", found.provider),
            ("Account", f"{found.account} ({found.label})" if found.label else found.account),
            ("State", words(found.state)),
            ("Reason", found.reason),
            ("To do", _to_do(found)),
            ("Granted", ", ".join(found.scopes)),
            ("Not granted", ", ".join(scope.id for scope in details.scopes if not scope.granted)),
            ("Revoked", revoked(revocation) if revocation else ""),
            ("Remains", revocation.remains if revocation else ""),
            ("By hand", revocation.manual_url if revocation else ""),
            ("Connected", _utc(terminal.moment(found.created_at))),
            ("Last sync", _utc(terminal.moment(last.finished_at or last.started_at)) if last else "none yet"),
            ("Outcome", words(last.outcome) if last else ""),
            ("Detail", last.detail if last else ""),
            ("Events", terminal.count(last.events, "event") if last else ""),
            ("Timetable", scheduled(found.timetable)),
            ("Next sync", _utc(terminal.moment(found.next_sync_at)) or "none planned"),
            ("Failures", terminal.count(details.tries, "sync") + " in a row" if details.tries else ""),
            *(("Calls left", _left(budget)) for budget in details.budgets),
            *(("Pushes", _pushed(each)) for each in details.subscriptions if each.state != "ended"),
            ("Cursor", msgspec.json.encode(found.meta.get("cursor")).decode()),
            ("Cursor since", _utc(terminal.moment(details.cursor_at))),
        ]
    )
    if details.runs:
        terminal.show("")
        terminal.show_table(RUNS, map(_run, details.runs))
        terminal.note(f"`oo runs {found.id}` lists more of them.")


@connections.command()
@click.argument("connection")
@click.option("--days", type=click.FloatRange(0, 90), default=7, show_default=True, help="How far back.")
@json_option
@click.pass_obj
def uses(call: Call, connection: str, days: float, as_json: bool) -> None:
    """Show where and how often a connection's credential was used, hour by hour."""
    found = ask(call, lambda client: client.uses(connection, days=days))
    if as_json:
        terminal.show_json({"uses": found})
    elif found:
        rows = ((terminal.moment(each.hour), each.host, f"{each.uses:,}".replace(",", "\u2009")) for each in found)
        terminal.show_table(USES, rows)
    else:
        terminal.show("It was not used in that time.")


@connections.command()
@click.argument("connection")
@json_option
@click.pass_obj
def pause(call: Call, connection: str, as_json: bool) -> None:
    """Pause a connection: no syncs and no actions until it is resumed."""
    found = ask(call, lambda client: client.pause(connection))
    if as_json:
        terminal.show_json(found)
    else:
        terminal.show(f"Paused. `oo connections resume {found.id}` lets it go on from where it was.")


@connections.command()
@click.argument("connection")
@json_option
@click.pass_obj
def resume(call: Call, connection: str, as_json: bool) -> None:
    """Let a paused connection go on."""
    found = ask(call, lambda client: client.resume(connection))
    if as_json:
        terminal.show_json(found)
    else:
        terminal.show("It goes on, and is synced now.")


@connections.command()
@click.argument("connection")
@click.option("--every", type=click.FloatRange(min=1, max=44_640), metavar="MINUTES", help="So many minutes after the last sync.")
@click.option("--cron", help='At these times, such as "30 6 * * mon-fri": minute, hour, day, month, weekday.')
@click.option("--zone", help="Whose clocks --cron means, such as Europe/Berlin. [default: the person's where known, else UTC]")
@click.option("--default", "as_all", is_flag=True, help="As often as all.")
@json_option
@click.pass_obj
def timetable(call: Call, connection: str, every: float | None, cron: str | None, zone: str | None, as_all: bool, as_json: bool) -> None:
    """Say when a connection is synced. Pushes, and syncs that are asked for, come all the same."""
    if sum((every is not None, cron is not None, as_all)) != 1 or (zone is not None and cron is None):
        raise click.UsageError("Say --every, --cron (with --zone, if you like) or --default.")
    seconds = None if every is None else every * MINUTE
    if as_all:
        found = ask(call, lambda client: client.take_timetable(connection))
    else:
        found = ask(call, lambda client: client.give_timetable(connection, every=seconds, cron=cron, zone=zone))
    if as_json:
        terminal.show_json(found)
    else:
        terminal.show(
            f"It is synced {scheduled(found.timetable)}, next at {_utc(terminal.moment(found.next_sync_at)) or 'no time planned'}."
        )


def scheduled(timetable: Timetable | None) -> str:
    """Write when a connection is synced."""
    if timetable is None:
        return "as often as all"
    if timetable.cron is not None:
        return f"at {timetable.cron} ({timetable.zone})"
    return f"every {(timetable.every or 0) / MINUTE:g} minutes"


def _row(connection: Connection) -> tuple[str, ...]:
    last = connection.last_sync
    return (
        connection.id,
        connection.user,
        connection.provider,
        connection.label or connection.account,
        words(connection.state),
        terminal.moment(last.finished_at or last.started_at) if last else "",
        words(last.outcome) if last else "",
        f"{last.events:,}".replace(",", "\u2009") if last else "",
    )


def _to_do(connection: Connection) -> str:
    """Write what helps a connection whose grant is gone."""
    if connection.state != "needs_sign_in":
        return ""
    account = ["--account", connection.account] if connection.account != "default" else []
    return f"{shlex.join(['oo', 'connect', connection.provider, '--user', connection.user, *account])} makes a link for its owner"


def _run(run: Run) -> tuple[str, ...]:
    took = f"{(run.finished_at - run.started_at).total_seconds():.1f}" if run.finished_at else ""
    return (terminal.moment(run.started_at), words(run.outcome), took, str(run.calls), str(run.events), run.detail)


def _left(budget: CallsLeft) -> str:
    """Write what is left of a limit."""
    whose = "for this person" if budget.of == "user" else "for all"
    closed = f"; the provider wants none before {_utc(terminal.moment(budget.closed_until))}" if budget.closed_until else ""
    return f"{budget.left} of {budget.at_once} at once {whose} ({budget.calls} in {budget.seconds} s){closed}"


def _pushed(subscription: Subscription) -> str:
    """Write what the provider was asked to push."""
    until = f" until {_utc(terminal.moment(subscription.expires_at))}" if subscription.expires_at else ""
    return f"{subscription.topic}, {subscription.state}{until}"


def words(state: str) -> str:
    """Write the API's word for people."""
    return state.replace("_", " ")


def revoked(revocation: Revocation) -> str:
    """Write how giving a grant back went."""
    said = {
        "pending": "not yet: the provider is being told",
        "unsupported": "no: the provider has no way to",
        "failed": "no: the provider could not be told",
    }.get(revocation.revoked, revocation.revoked)
    reason = f" ({revocation.reason})" if revocation.reason else ""
    at = f", {_utc(terminal.moment(revocation.at))}" if revocation.at else ""
    return f"{said}{reason}{at}"


def _utc(time: str) -> str:
    return f"{time} UTC" if time else ""
