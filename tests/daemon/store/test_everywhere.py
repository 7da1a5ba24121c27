"""Queries that few tests ask: each is asked on every dialect, and says the same. The others are in the contracts and the portable tests."""

from __future__ import annotations

import ast
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from daemon.store.conftest import PORTABLE
from daemon.store.inbox_contract import arrival, furnish
from daemon.store.world import LEASE, NOW, SECOND, Book, connect, encode, occur, signed_in, upsert

from oo_daemon.host import HostClock
from oo_daemon.store import (
    accept,
    audit,
    budgets,
    connections,
    credentials,
    duties,
    erasures,
    export,
    flows,
    inbox,
    jobs,
    latency,
    levels,
    outbox,
    overview,
    probe,
    runs,
    schedule,
    sealed,
    subscriptions,
    uploads,
    uses,
    vault_keys,
    visits,
)
from oo_daemon.store.accept import Batch
from oo_daemon.store.audit import Act
from oo_daemon.store.budgets import Bucket
from oo_daemon.store.database import Database, Row, of_rows
from oo_daemon.store.errors import LeaseLost
from oo_daemon.store.flows import Found, SignIn
from oo_daemon.store.subscriptions import Subscriber, SubscriptionRow
from oo_daemon.store.uploads import Kind
from oo_vault import Sealed

STORE = Path(accept.__file__).parent
TESTS = Path(__file__).parent
HOUR = 3600 * SECOND
OLD, NEW = Sealed(key_id="k1", blob=b"\x00old"), Sealed(key_id="k2", blob=b"\xffnew")


def sign_in(id_: str, created_at: int = NOW) -> SignIn:
    """A sign-in whose link was just given out."""
    return SignIn(
        id=id_,
        registration="acme",
        provider="acme",
        user="ada",
        account="default",
        sealed=None,
        redirect_uri="https://oo.example/oauth/acme/callback",
        scopes=("notes.read",),
        asked=(),
        return_to="",
        found=None,
        status="open",
        reason="",
        connection=None,
        browser_hash=None,
        created_at=created_at,
        expires_at=created_at + 900 * SECOND,
    )


def pending(book: Book, id_: str) -> None:
    """A sign-in that holds a grant until somebody says whether the account is the right one."""
    with book.transaction() as database:
        flows.open_(database, sign_in(id_), id_.encode())
        begun = {"state_hash": f"s{id_}".encode(), "browser_hash": b"b", "verifier": OLD, "asked": (), "expires_at": NOW + HOUR}
        assert flows.begin(database, id_.encode(), NOW, **begun)  # type: ignore[arg-type]  # a dict has one type of values
        assert flows.use_state(database, f"s{id_}".encode(), NOW) is not None
        flows.hold(database, id_, NEW, Found(account_id="a-1", label="Ada", scopes=("notes.read",), meta={}), NOW + HOUR)


def test_the_audit(book: Book) -> None:
    """Entries are chained, those about somebody say whom until that is forgotten."""
    with book.transaction() as database:
        assert audit.subject(database, "user ada", "r1") == audit.subject(database, "user ada", "r2") == "r1"
        act = Act(at=NOW, who="uid 0", act="GET /", subject="r1", status=200)
        first, second = (audit.add(database, act, lambda chain: ("k1", chain[:4])) for _ in range(2))
        assert first.link != second.link
        assert [(each.number, each.stands_for) for each in audit.listed(database, 1)] == [(second.number, "user ada")]
        audit.forget(database, "user ada")
        assert [(each.number, each.stands_for) for each in audit.after(database, first.number, 9)] == [(second.number, "")]


def test_latency(book: Book) -> None:
    """Numbers add up by hour; the middle and the slowest but one of a hundred are known; old hours go."""
    with book.transaction() as database:
        latency.add(database, {(HOUR, 0): 10, (HOUR, 4): 1, (2 * HOUR, 20): 1})
        latency.add(database, {(HOUR, 0): 88, (HOUR, 4): 1})
        found = latency.hours(database, HOUR)
        assert (found[HOUR].deliveries, found[HOUR].half, found[HOUR].most) == (100, 0.001, 0.004)
        assert found[2 * HOUR].half == latency.end(20)
        assert latency.hours(database, HOUR + 1).keys() == {2 * HOUR}
        assert latency.forget(database, 2 * HOUR) == 2


def test_visits(book: Book) -> None:
    """A link is one browser's once somebody has proved there who they are, is used once, and what it opened ends; a receipt has no user."""
    with book.transaction() as database:
        for id_ in ("v1", "v2"):
            visits.open_(database, id_, "ada", id_.encode(), NOW, NOW + 900 * SECOND)
        assert visits.prove(database, b"v1", b"mine", NOW, "ticket")
        assert not visits.prove(database, b"v1", b"other", NOW, "ticket")
        assert visits.by_link(database, b"v1", b"other", NOW) is None
        known = visits.by_link(database, b"v1", b"mine", NOW)
        assert known is not None
        assert (known.user, known.proved) == ("ada", "ticket")
        terms = {"cookie_hash": b"cookie", "expires_at": NOW + HOUR}
        assert not visits.begin(database, b"v1", b"other", NOW, **terms)  # type: ignore[arg-type]  # a dict has one type of values
        assert visits.begin(database, b"v1", b"mine", NOW, **terms)  # type: ignore[arg-type]
        assert not visits.begin(database, b"v1", b"mine", NOW, **terms)  # type: ignore[arg-type]
        assert visits.by_cookie(database, b"cookie", NOW + HOUR) is None
        begun = visits.by_cookie(database, b"cookie", NOW)
        assert begun is not None
        erasures.erase_sign_ins(database, "ada", NOW, NOW)
        assert visits.by_cookie(database, b"cookie", NOW) is visits.by_link(database, b"v2", b"", NOW) is None
        visits.erased(database, begun, b"cookie", "e1")
        left = visits.by_cookie(database, b"cookie", NOW)
        assert left is not None
        assert (left.user, left.erasure) == (None, "e1")
        visits.end(database, "v1")
        assert visits.by_cookie(database, b"cookie", NOW) is None
        visits.open_(database, "v3", "ada", b"v3", NOW, NOW + 1)
        assert visits.drop_older(database, NOW + 2) == 1


@pytest.mark.rows("E8")
def test_whose_turn_it_is_is_seen_at_a_glance(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is plain whose turn it is, those are claimed who would be if all turns were counted."""
    plain = 0
    for seed in range(25):
        chance, claimed = random.Random(seed), list[set[str]]()
        people = [f"u{chance.randrange(chance.choice((2, 6, 40)))}" for _ in range(chance.randint(1, 8))]
        due = [NOW - chance.randint(0, 3) for _ in people]
        limit, most, live = chance.randint(1, 5), chance.randint(1, 4), chance.randint(0, 2)
        looks: tuple[Callable[..., bool], ...] = (schedule._in_turn, lambda *_: False)
        for look in looks:
            with book.draft() as database, monkeypatch.context() as patch:
                for number, (user, at) in enumerate(zip(people, due, strict=True)):
                    known = connect(database, f"c{number}", user=user)
                    database.rows("UPDATE schedule SET next_run_at = ? WHERE connection = ?", (at, known.number))
                schedule.claim(database, "before", NOW, NOW + LEASE, live)
                seen: list[bool] = []

                def looked(*given: Any, look: Callable[..., bool] = look, seen: list[bool] = seen) -> bool:
                    seen.append(look(*given))
                    return seen[-1]

                patch.setattr(schedule, "_in_turn", looked)
                claimed.append({run.of.id for run in schedule.claim(database, "me", NOW, NOW + LEASE, limit, most)})
                plain += seen == [True]
        assert claimed[0] == claimed[1], seed
    assert plain > 3


def test_budgets(book: Book) -> None:
    """A bucket gives what is in it, nothing behind a closed door, and is forgotten."""
    bucket = Bucket(burst=2, rate=1.0)
    with book.transaction() as database:
        assert budgets.level(database, "b", bucket, NOW).tokens == 2
        assert budgets.draw(database, "b", bucket, want=2, reserve=0.0, now=lambda: NOW).tokens == 2
        assert budgets.level(database, "b", bucket, NOW + SECOND).tokens == 1
        assert budgets.draw(database, "b", bucket, want=1, reserve=0.0, now=lambda: NOW).wait > 0
        budgets.close(database, "b", NOW + HOUR, NOW)
        assert budgets.draw(database, "b", bucket, want=1, reserve=0.0, now=lambda: NOW + 60 * SECOND).wait > 3000
        assert budgets.forget(database, NOW + 1000 * HOUR) == 1


def test_connections_and_their_grants(book: Book) -> None:
    """Pages, grants that are shared, and those that were idle for long."""
    with book.transaction() as database:
        furnish(database)
        made = [connections.put(database, signed_in(name, registration="acme"), NOW) for name in ("c1", "c2", "c3")]
        assert [each.id for each in connections.page(database, after=made[0].number, limit=1)] == ["c2"]
        assert connections.page(database, after=0, limit=9, state="paused", words="c") == []
        for each in made[:2]:
            credentials.put(database, each.number, 1, OLD, NOW)
        assert connections.shares_grant(database, made[0])
        assert not connections.uses_account(database, "acme", "a-2", "acme")
        assert connections.uses_account(database, "acme", "a-1", "acme")
        assert len(connections.withdrawn_from(database, "acme", ["a-1"], "acme", NOW)) == 3
        assert [each.id for each in credentials.idle(database, NOW + 1, 1)] == ["c1"]
        assert credentials.lease(database, "c1", "me", NOW, NOW + LEASE) == 1
        credentials.rescue(database)
        assert credentials.read(database, "c1").lease_owner is None


def test_the_schedule(book: Book) -> None:
    """What is overdue is counted and spread, what was planned by a clock that was ahead comes back, and a stop takes the lease."""
    with book.transaction() as database:
        one, other = connect(database, "c1"), connect(database, "c2", user="grace")
        assert schedule.waiting(database, NOW)
        assert schedule.overdue(database, NOW + 1) == 2
        assert schedule.spread(database, NOW + 1, NOW + SECOND, 300 * SECOND, 7, 9) == 2
        assert not schedule.waiting(database, NOW)
        assert schedule.latest_end(database) == 0
        assert schedule.set_back(database, NOW - HOUR, HOUR, 0, 9) == other.number
        assert schedule.set_back(database, NOW - HOUR, HOUR, other.number, 9) is None
        schedule.pushed(database, one.number, NOW)
        claimed = schedule.claim(database, "me", NOW + HOUR, NOW + HOUR + LEASE, 9)
        place = (one.number, 1)
        assert schedule.holding(database, claimed)[place].heard
        schedule.poll_again(database, one.number, NOW)
        assert not schedule.holding(database, claimed)[place].heard
        schedule.set_timetable(database, one.number, "0 6 * * *", NOW + SECOND)
        assert schedule.holding(database, claimed)[place].timetable == "0 6 * * *"
        assert [schedule.place_of(database, run, HOUR) for run in claimed] == [None, None]
        schedule.begin_anew(database, one.number, NOW)
        assert schedule.rescue(database, NOW) == 1
        schedule.stop(database, other.number, NOW)
        assert [logged.outcome for logged in runs.listed(database, connection=other.number)] != []
        assert runs.trim(database, 0) == 2


def test_what_was_told(book: Book) -> None:
    """The latest events, those of a connection, one alone, and where a moment is; and the looks over all of it."""
    with book.transaction() as database:
        connection = connect(database)
        batch = Batch(connection=connection, observed_at=NOW, drafts=[upsert("n1"), occur("o1")])
        assert accept.accept(database, batch, encode).events == 2
        assert [stored[0] for stored in outbox.latest(database, 99, 9)[0]] == [2, 1]
        assert [stored[0] for stored in outbox.of_connection(database, connection.number, 1)] == [2]
        assert outbox.at(database, 1) is not None
        assert outbox.before(database, NOW + 1) == 2
        assert outbox.before(database, NOW) == 0
        assert [position for position, _ in export.events(database, "ada", 1, 9)] == [2]
        assert [each["connection"] for each in export.of_user(database, "ada").connections] == ["c1"]
        assert levels.looked_at(database).connections == {("acme", "active"): 1}
        assert overview.looked_at(database, NOW).connections["active"] == 1
        assert sum(hour.events for hour in overview.hours(database, 2, NOW)) == 2
        uses.add(database, {(connection.number, "api.acme.example"): 3}, NOW)
        uses.add(database, {(connection.number, "api.acme.example"): 1}, NOW)
        assert [use.uses for use in uses.of(database, connection.number, 0)] == [4]
        assert uses.forget(database, NOW + HOUR) == 1
        probe.touch(database, NOW)


def test_keys_and_what_they_seal(book: Book) -> None:
    """What is sealed is counted and sealed anew where nothing has changed since; a key that nothing needs is dropped."""
    with book.transaction() as database:
        furnish(database)
        connection = connect(database)
        credentials.put(database, connection.number, 1, OLD, None)
        vault_keys.add(database, OLD, NOW)
        vault_keys.rotation_begun(database, "k1", NOW)
        assert vault_keys.rotating_since(database) == NOW
        vault_keys.rotation_ended(database)
        assert vault_keys.rotating_since(database) is None
        old = sealed.old_credentials(database, "k2", 0, 9)
        sealed.replace_credentials(database, [(sealed.Old.of(each), NEW) for each in old])
        assert credentials.read(database, "c1").sealed == NEW
        sealed.replace_secrets(database, [("registration", "acme", Sealed(key_id="k1", blob=b"\x00"), NEW)])
        assert sealed.counted(database) == {"k1": 1, "k2": 2}
        sealed.replace_secrets(database, [("source", "acme", Sealed(key_id="k1", blob=b"\x00token"), NEW)])
        assert vault_keys.drop(database, "k1") == 0


def test_sign_ins_that_leave_something(book: Book) -> None:
    """A grant that nobody confirmed is there to be given back, until it is let go."""
    with book.transaction() as database:
        furnish(database)
    pending(book, "f1")
    with book.transaction() as database:
        assert [each.id for each in flows.sealing(database)] == ["f1"]
        assert flows.opened_since(database, "ada", NOW - 1) == 1
        assert flows.answer(database, "f1", NOW) is not None
        flows.end(database, "f1", "failed", "another account", left=(NEW, Found(account_id="a-1", label="", scopes=(), meta={})))
        assert [each.id for each in flows.left(database, NOW)] == ["f1"]
        flows.let_go(database, "f1")
        assert flows.left(database, NOW) == []


def test_sign_ins_by_a_key_or_a_code(book: Book) -> None:
    """A link is that browser's in which the person proved who they are; a key uses it up, and so does a code, which is asked about."""
    with book.transaction() as database:
        furnish(database)
        for id_ in ("f1", "f2"):
            flows.open_(database, sign_in(id_), id_.encode())
        assert flows.prove(database, b"f1", NOW, browser_hash=b"b", how="ticket")
        assert not flows.prove(database, b"f1", NOW, browser_hash=b"other", how="ticket")
        assert flows.enter(database, b"f1", NOW, browser_hash=b"b", asked=("notes.read",), expires_at=NOW + HOUR)
        used = flows.use_link(database, b"f1", NOW)
        assert used is not None
        assert (used.status, used.proved) == ("exchanging", "ticket")
        assert flows.use_link(database, b"f1", NOW) is None
        terms: dict[str, Any] = {"browser_hash": None, "code": OLD, "asked": (), "poll_at": NOW + 5, "expires_at": NOW + HOUR}
        assert flows.begin_device(database, "f2", NOW, **terms)
        assert not flows.begin_device(database, "f2", NOW, **terms)
        assert flows.to_poll(database, NOW, NOW + 9) == []
        assert [each.id for each in flows.to_poll(database, NOW + 5, NOW + 9)] == ["f2"]
        flows.poll_sooner(database, NOW + 9, NOW + 7)
        assert [each.id for each in flows.to_poll(database, NOW + 7, NOW + 9)] == ["f2"]
        flows.poll_again(database, "f2", OLD, NOW + 10)
        assert flows.to_poll(database, NOW + 9, NOW + 20) == []


def test_subscriptions(book: Book) -> None:
    """They are looked at when it is time, renewed together, and forgotten once they have ended."""
    with book.transaction() as database:
        furnish(database)
        number = connections.put(database, signed_in("c1", registration="acme"), NOW).number
        row = SubscriptionRow(id="s1", connection=number, topic="t", state="standing", changed_at=NOW)
        subscriptions.put(database, row)
        assert subscriptions.of(database, number) == [row]
        assert subscriptions.due(database, ["acme"], NOW, 9) == [number]
        subscriptions.looked(database, number, Subscriber(look_at=NOW + HOUR, tries=5, reason="no answer"))
        assert subscriptions.due(database, ["acme"], NOW, 9) == []
        assert subscriptions.failing(database) == {"acme": 1}
        subscriptions.renew_all(database, "acme", NOW)
        found = subscriptions.subscriber(database, number)
        assert found is not None
        assert found.look_at == NOW
        subscriptions.put(database, SubscriptionRow(id="s1", connection=number, topic="t", state="ended", changed_at=NOW))
        subscriptions.forget_ended(database, number, NOW + 1)
        assert subscriptions.of(database, number) == []


def test_uploads(book: Book) -> None:
    """From the ticket to the summary, with a rescue between."""
    with book.transaction() as database:
        number = connect(database).number
        made = {"connection": number, "expires_at": NOW + HOUR, "name": "", "size": None, "now": NOW}
        uploads.add(database, id_="u1", ticket_hash=b"t", **made)  # type: ignore[arg-type]  # a dict has one type of values
        assert uploads.described(database, "u1", "export.zip", 10)
        assert uploads.received(database, "u1", 10, "here")
        assert uploads.queue(database, "u1")
        claimed = uploads.claim(database, "here", NOW, 1)
        assert claimed is not None
        assert [uploads.put_back(database, *which) for which in (("there", []), ("here", ["u1"]), ("here", []))] == [0, 0, 1]
        assert uploads.claim(database, "here", NOW, 1) is not None
        uploads.adopt(database, "there")  # it has a place already
        assert uploads.rescue(database, "there") == 0
        assert uploads.rescue(database, "here") == 1
        assert uploads.claim(database, "here", NOW, 1) is not None
        assert uploads.new_events(database, "u1") == {}
        assert uploads.end(database, "u1", "done", "", NOW)
        uploads.summed(database, "u1", {"sample": Kind(records=3, events=2)}, 2)
        found = uploads.by_ticket(database, b"t")
        assert found is not None
        assert found == uploads.by_id(database, "u1")
        assert (found.name, found.state, found.events, found.kinds["sample"].records) == ("export.zip", "done", 2, 3)
        assert [each.id for each in uploads.listed(database, user="ada")] == ["u1"]
        assert uploads.unfinished(database) == []


def test_an_erasure(book: Book) -> None:
    """Everything of a user goes, in parts, and what a restored database has again is known."""
    with book.transaction() as database:
        furnish(database)
        connection = connect(database)
        accept.accept(database, Batch(connection=connection, observed_at=NOW, drafts=[upsert("n1"), occur("o1")]), encode)
        inbox.put(database, arrival("d1", body=b'{"account": "a-1"}'))
        (claimed,) = inbox.claim(database, "me", NOW, NOW + LEASE, 9)
        inbox.give_up(database, claimed, NOW, "", forget=False)
        inbox.put(database, arrival("d2", body=b'{"account": "a-12"}'))  # somebody else's, whose id holds this one
        (claimed,) = inbox.claim(database, "me", NOW, NOW + LEASE, 9)
        inbox.give_up(database, claimed, NOW, "", forget=False)
        assert [each["delivery_id"] for each in export.of_user(database, "ada").deliveries] == ["d1"]
    pending(book, "f1")
    with book.transaction() as database:
        begun = erasures.begin(database, id_="e1", kind="user", user="ada", of=[connection], job_ids=["j1"], now=NOW)
        assert begun == erasures.by_id(database, "e1") == erasures.of_user(database, "ada")
        assert erasures.of_connection(database, connection.number) == begun
        with pytest.raises(LeaseLost):
            accept.accept(database, Batch(connection=connection, observed_at=NOW, drafts=[upsert("n2")]), encode)
        while erasures.erase_some(database, "e1", connection.number):
            pass
        assert erasures.erase_deliveries(database, "e1", connection) == 1
        assert erasures.erase_deliveries(database, "e1", connection) == 0
        left = inbox.shown(database, claimed.number)
        assert left is not None
        assert left[2] == b'{"account": "a-12"}'
        assert erasures.erase_sign_ins(database, "ada", NOW, NOW) == 1
        erasures.drop_sign_ins(database, "ada", NOW)
        erasures.TombstoneWritten(erasure="e1", now=NOW).apply(database)
        with pytest.raises(LeaseLost):
            erasures.TombstoneWritten(erasure="e1", now=NOW).apply(database)
        erasures.told(database, connection.number, {"revoked": "fully"}, NOW)
        assert erasures.reborn(database, {"c1": NOW}) == []
        erasures.end_connection(database, connection.number)
        erasures.finish(database, "e1", NOW)
        (done,) = erasures.listed(database)
        assert (done.state, done.counts) == ("done", {"outbox": 2, "object": 1, "occurrence": 1, "delivery": 1})
        assert jobs.latest(database, "revoke", connection.number) is None


def test_duties(book: Book) -> None:
    """Whoever has taken one keeps it until it runs out or is left; one that is kept absurdly long does not stand."""
    with book.transaction() as database:
        assert duties.take(database, "tidy", "one", NOW, NOW + LEASE)
        assert duties.take(database, "tidy", "one", NOW + 1, NOW + 1 + LEASE)
        assert not duties.take(database, "tidy", "two", NOW + LEASE, NOW + 2 * LEASE)
        assert duties.take(database, "tidy", "two", NOW + 1 + LEASE, NOW + 1 + 2 * LEASE)
        assert duties.take(database, "tidy", "one", NOW - 9 * LEASE, NOW - 8 * LEASE), "the clock was set back"
        duties.leave(database, "one")
        assert duties.take(database, "tidy", "three", NOW, NOW + LEASE)


def test_clocks(book: Book) -> None:
    """On a server it is known by how much ours is ahead; a file has no clock of its own."""
    clock = HostClock()
    ahead = probe.ahead(book.database, lambda: clock.now() + 7 * SECOND)
    assert ahead == 0 if book.database.dialect == "sqlite" else 6 * SECOND < ahead < 8 * SECOND


def test_a_connection_is_held(book: Book) -> None:
    """It is looked at, and nobody else changes it until the commit."""
    with book.transaction() as database:
        connection = connect(database)
        assert connections.held(database, connection.number) == connection


def test_what_was_confirmed_is_finished_elsewhere(book: Book) -> None:
    """Once: of those who would finish it one gets it, and one who confirms again changes nothing."""
    with book.transaction() as database:
        furnish(database)
    pending(book, "f1")
    with book.transaction() as database:
        assert flows.confirm(database, "f1", NOW)
        assert not flows.confirm(database, "f1", NOW)
        assert [each.id for each in flows.confirmed(database, NOW)] == ["f1"]
        assert flows.answer(database, "f1", NOW) is not None
        assert flows.answer(database, "f1", NOW) is None
        assert flows.confirmed(database, NOW) == []


# --- which there are -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 2, 63, 64, 65, 200])
def test_rows_are_written_many_with_one_statement(book: Book, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In parts of which there are few sizes, whatever stands around the row; what writes no row is run for each."""
    sql = "INSERT INTO latency (hour, stretch, deliveries) VALUES (?, ?, 0) ON CONFLICT (hour, stretch) DO NOTHING"
    assert of_rows(sql, 2).endswith(" VALUES (?, ?, 0), (?, ?, 0) ON CONFLICT (hour, stretch) DO NOTHING")
    parts, run = list[int](), type(book.database).rows

    def counted(database: Database, statement: str, values: Sequence[Any] = ()) -> list[Row]:
        parts.append(len(values) // 2)
        return run(database, statement, values)

    monkeypatch.setattr(type(book.database), "rows", counted)
    book.database.many(sql, ((count, each << 30) for each in range(count)))
    assert parts == {63: [32, 16, 8, 4, 2, 1], 65: [64, 1], 200: [64, 64, 64, 8]}.get(count, [count] if count else [])
    book.database.many("UPDATE latency SET deliveries = ? WHERE stretch = ?", ((each, each << 30) for each in range(count)))
    found = book.database.rows("SELECT stretch, deliveries FROM latency WHERE hour = ? ORDER BY stretch", (count,))
    assert found == [(each << 30, each) for each in range(count)]


def names(tree: ast.AST, module: str) -> set[tuple[str, str]]:
    """What code names: `module.query`, and names of its own module."""
    found = {(node.value.id, node.attr) for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)}
    return found | {(module, node.id) for node in ast.walk(tree) if isinstance(node, ast.Name)}


def named(file: Path) -> set[tuple[str, str]]:
    """What a test names, by the modules of the store from which it takes it."""
    tree = ast.parse(file.read_text())
    known: dict[str, tuple[str, str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module is not None and node.module.startswith("oo_daemon.store"):
            known |= {alias.asname or alias.name: (node.module.rpartition(".")[2], alias.name) for alias in node.names}
    found = names(tree, "")
    return {known.get(name, ("", "")) for module, name in found if not module} | {(known.get(of, ("", of))[1], name) for of, name in found}


def test_every_query_is_asked_on_every_dialect() -> None:
    """Each named query is reached from a test that is run on SQLite and on PostgreSQL."""
    reached: dict[tuple[str, str], set[tuple[str, str]]] = {}
    queries = set()
    for file in STORE.glob("*.py"):
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                reached[file.stem, node.name] = names(node, file.stem)
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                first = [*node.args.posonlyargs, *node.args.args][:1]
                if first and isinstance(first[0].annotation, ast.Name) and first[0].annotation.id == "Database":
                    queries.add((file.stem, node.name))
    todo = {place for name in ("contract", "inbox_contract", *sorted(PORTABLE)) for place in named(TESTS / f"{name}.py")}
    seen: set[tuple[str, str]] = set()
    while todo:
        place = todo.pop()
        if place in reached and place not in seen:
            seen.add(place)
            todo |= reached[place]
    assert sorted(queries - seen) == []
    assert len(queries) > 150
