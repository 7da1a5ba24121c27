"""A grant is renewed once, in time, and never lost without a word."""

import asyncio
import os
import random
from collections import Counter
from collections.abc import Callable

import pytest
from msgspec.structs import replace
from vault.world import CONNECTION, GRACE, HOUR, ROTATING, SECOND, STEADY, Crash, Fault, World

from oo_vault import (
    ClientBroken,
    CredentialGone,
    Grant,
    Intent,
    Keyring,
    KeyUnknown,
    LeaseLost,
    Refresher,
    Renewed,
    Rotation,
    Sealed,
    Secret,
    SignInNeeded,
    Tampered,
    TryLater,
    Unclear,
    VersionMoved,
    digest,
)

#: The long run has 1,000 seeds, and 10,000 connections over two days.
SEEDS = int(os.environ.get("OO_TEST_REFRESH_SEEDS", "40"))
CONNECTIONS = int(os.environ.get("OO_TEST_REFRESH_CONNECTIONS", "100"))
EVERY = [pytest.param(STEADY, id="steady"), pytest.param(ROTATING, id="rotating"), pytest.param(GRACE, id="grace")]


# --- when it is renewed ----------------------------------------------------------------------------------------------


async def test_a_fresh_grant_is_given_as_it_is() -> None:
    """Outside its margin a grant costs no call."""
    world = World(GRACE)
    world.clock.time += HOUR - 301
    grant = await world.grant()
    assert grant.token_version == 1
    assert world.provider.used == []


@pytest.mark.parametrize("rotation", EVERY)
async def test_within_its_margin_it_is_renewed(rotation: Rotation) -> None:
    """Within the margin one call gives a new grant, kept under the next version with no intent and no lease left."""
    world = World(rotation)
    world.into_margin()
    grant = await world.grant()
    assert world.provider.accepts(grant)
    assert grant == world.row.open(world.keyring)
    assert (grant.token_version, grant.scopes, grant.extra) == (2, ("data:read",), {"account": "a1"})
    assert (world.row.state, world.row.intent, world.row.lease_owner) == ("good", None, None)
    assert world.row.expires_at == grant.expires_at == world.clock.now() + 3600 * SECOND
    assert grant.refresh_token == Secret(world.provider.good)
    assert world.rows.steps == [
        f"{when} {step}" for step in ("lease", "intend", "probe", "exchange", "commit") for when in ("before", "after")
    ]


@pytest.mark.parametrize(("life", "least", "most"), [(3600, 150, 300), (100, 10, 20), (86400, 150, 300)])
async def test_the_margin_is_jittered_and_drawn_once(life: int, least: float, most: float) -> None:
    """Renewal begins between half and all of min(20 % of life, 5 min), and looking often does not bring it forward."""
    begun = []
    for seed in range(20):
        world = World(STEADY, life=life)
        world.refresher = Refresher(rows=world.rows, keyring=world.keyring, clock=world.clock, chance=random.Random(seed), owner="p")
        start = world.clock.time
        world.clock.time = start + life - most - 1
        while not world.provider.used:
            await world.grant()
            world.clock.time += most / 50
        begun.append(life - (world.clock.time - most / 50 - start))
    assert all(least - most / 50 <= margin <= most for margin in begun)
    assert max(begun) - min(begun) > (most - least) / 2


async def test_a_grant_without_an_end_is_never_renewed_unasked() -> None:
    """Years later it is given as it is."""
    world = World(STEADY, life=None)
    world.clock.time += 5 * 365 * 24 * HOUR
    assert (await world.grant()).token_version == 1
    assert world.provider.used == []


async def test_an_end_of_zero_seconds_is_no_end() -> None:
    """An answer whose expires_in is 0 does not cause a refresh at each use."""
    world = World(STEADY, life=0)
    first = await world.grant()
    second = await world.grant()
    assert (first.expires_at, second.token_version) == (None, 2)


@pytest.mark.rows("C13")
async def test_a_401_forces_exactly_one_refresh() -> None:
    """However many callers saw the same version refused, the provider is called once, and once is enough."""
    world = World(GRACE)
    grants = await world.clock.run(
        asyncio.gather(*(world.refresher.grant(CONNECTION, world.exchange, GRACE, force_after=1) for _ in range(20)))
    )
    assert {grant.token_version for grant in grants} == {2}
    assert (await world.grant(force_after=1)).token_version == 2
    assert len(world.provider.used) == 1


@pytest.mark.parametrize("life", [None, 3600])
async def test_a_401_on_a_grant_that_cannot_be_renewed(life: int | None) -> None:
    """It means a new sign-in, and the row stays as it is: one 401 may be the API's mistake."""
    world = World(STEADY, life=life)
    world.sign_in(replace(world.provider.first(), refresh_token=None))
    with pytest.raises(SignInNeeded):
        await world.grant(force_after=1)
    assert world.row.state == "good"
    assert (await world.grant()).token_version == 1


async def test_a_grant_that_cannot_be_renewed_ends_with_its_token() -> None:
    """Without a refresh token the access token is used to its end; then a new sign-in is needed, and the row says so."""
    world = World(GRACE)
    world.sign_in(replace(world.provider.first(), refresh_token=None))
    world.into_margin()
    assert (await world.grant()).token_version == 1
    world.past_expiry()
    with pytest.raises(SignInNeeded):
        await world.grant()
    assert world.row.state == "dead"
    assert world.provider.used == []


# --- what the provider answers ---------------------------------------------------------------------------------------

#: rotation, what the calls do, is the old token still alive → what the caller gets, the state, calls, is an intent left
TABLE: list[tuple[Rotation, list[Fault], bool, str, str, int, bool]] = [
    (STEADY, ["ok"], True, "new", "good", 1, False),
    (STEADY, ["lost"], True, "old", "good", 1, True),
    (STEADY, ["lost"], False, "TryLater", "good", 1, True),
    (STEADY, ["500"], True, "old", "good", 1, True),
    (STEADY, ["500"], False, "TryLater", "good", 1, True),
    (STEADY, ["not sent"], True, "old", "good", 1, False),
    (STEADY, ["not sent"], False, "TryLater", "good", 1, False),
    (STEADY, ["dead", "ok"], True, "new", "good", 2, False),
    (STEADY, ["dead", "dead"], True, "SignInNeeded", "dead", 2, False),
    (STEADY, ["dead", "500"], True, "old", "good", 2, True),
    (STEADY, ["dead", "not sent"], False, "TryLater", "good", 2, True),
    (STEADY, ["client"], True, "ClientBroken", "good", 1, False),
    (STEADY, ["client"], False, "ClientBroken", "good", 1, False),
    (ROTATING, ["ok"], False, "new", "good", 1, False),
    (ROTATING, ["lost"], True, "old", "good", 1, True),
    (ROTATING, ["lost"], False, "TryLater", "good", 1, True),
    (ROTATING, ["500"], True, "old", "good", 1, True),
    (ROTATING, ["not sent"], True, "old", "good", 1, False),
    (ROTATING, ["not sent"], False, "TryLater", "good", 1, False),
    (ROTATING, ["dead"], True, "SignInNeeded", "dead", 1, False),
    (ROTATING, ["client"], True, "ClientBroken", "good", 1, False),
    (GRACE, ["ok"], False, "new", "good", 1, False),
    (GRACE, ["lost"], True, "new", "consent_soon", 2, False),
    (GRACE, ["lost"], False, "new", "consent_soon", 2, False),
    (GRACE, ["lost", "500"], True, "old", "good", 2, True),
    (GRACE, ["500"], True, "new", "good", 2, False),
    (GRACE, ["500", "500"], True, "old", "good", 2, True),
    (GRACE, ["500", "500"], False, "TryLater", "good", 2, True),
    (GRACE, ["500", "not sent"], False, "TryLater", "good", 2, True),
    (GRACE, ["not sent"], False, "TryLater", "good", 1, False),
    (GRACE, ["dead"], True, "SignInNeeded", "dead", 1, False),
    (GRACE, ["500", "dead"], True, "SignInNeeded", "dead", 2, False),
    (GRACE, ["client"], False, "ClientBroken", "good", 1, False),
]


@pytest.mark.rows("C12")
@pytest.mark.parametrize(("rotation", "script", "alive", "outcome", "state", "calls", "intent"), TABLE)
async def test_answers(rotation: Rotation, script: list[Fault], alive: bool, outcome: str, state: str, calls: int, intent: bool) -> None:
    """C12: each answer leaves the row and the caller as the table says; the sealed grant is never dropped."""
    world = World(rotation)
    world.provider.script = list(script)
    world.into_margin() if alive else world.past_expiry()
    got = await ask(world)
    assert (got, world.row.state, len(world.provider.used)) == (outcome, state, calls)
    assert (world.row.intent is not None) == intent
    assert world.row.lease_owner is None
    assert world.row.open(world.keyring).access_token


async def ask(world: World, *, force_after: int | None = None) -> str:
    """Ask once, and say what came: new, old, or the name of the error."""
    version = world.row.token_version
    try:
        grant = await world.grant(force_after=force_after)
    except (SignInNeeded, TryLater, ClientBroken) as error:
        return type(error).__name__
    return "new" if grant.token_version > version else "old"


@pytest.mark.rows("C12")
@pytest.mark.parametrize("rotation", EVERY)
@pytest.mark.parametrize("fault", ["500", "not sent"])
async def test_a_long_outage_ends_nothing(rotation: Rotation, fault: Fault) -> None:
    """After six hours without the provider, far beyond the token's end, the grant is renewed; calls grew rare meanwhile."""
    world = World(rotation)
    world.into_margin()
    world.provider.script = [fault] * 1000
    for _ in range(6 * 60):
        assert await ask(world) in {"old", "TryLater"}
        world.clock.time += 60
    assert len(world.provider.used) < 6 * 60 / 2
    assert world.row.state == "good"
    world.provider.script = []
    world.clock.time += 600
    assert await ask(world) == "new"
    assert world.row.state == "good"


@pytest.mark.rows("C11")
async def test_a_token_that_may_be_spent_waits_while_there_is_something_to_lose() -> None:
    """After the grace, a lost answer is not asked for again before the access token has run out or is refused."""
    world = World(GRACE)
    world.into_margin()
    world.clock.time -= 60
    world.provider.script = ["500", "500"]
    assert await ask(world) == "old"
    world.restart()
    world.clock.time += 80
    assert await ask(world) == "old"
    assert len(world.provider.used) == 2
    world.clock.time += 120
    assert await ask(world) == "new"
    assert world.row.state == "good"


async def test_a_401_leaves_nothing_to_lose() -> None:
    """When the access token is refused, a refresh token that may be spent is tried at once."""
    world = World(GRACE)
    world.into_margin()
    world.provider.script = ["500", "500"]
    assert await ask(world) == "old"
    world.restart()
    world.clock.time += 50
    assert await ask(world, force_after=1) == "new"


async def test_the_grace_answer_is_the_last() -> None:
    """After an answer without a refresh token the spent one is never used again; when its token ends, sign-in is needed."""
    world = World(GRACE)
    world.into_margin()
    world.provider.script = ["lost"]
    grant = await world.grant()
    assert grant.refresh_token is None
    world.into_margin()
    assert await world.grant() == grant
    world.past_expiry()
    assert await ask(world) == "SignInNeeded"
    assert world.row.state == "dead"
    assert len(world.provider.used) == 2
    assert not world.provider.killed


async def test_no_refresh_token_in_the_answer_keeps_the_old_one() -> None:
    """A provider that does not rotate, or has no grace, sends none when the old one stays good."""
    for rotation in (STEADY, Rotation(rotates=True)):
        world = World(rotation)
        world.provider.rotation = STEADY
        world.into_margin()
        assert (await world.grant()).refresh_token == Secret("refresh-0")
        assert world.row.state == "good"


async def test_a_dead_grant_is_not_tried_again() -> None:
    """Once dead, each caller is told without a call, until a sign-in replaces the row."""
    world = World(ROTATING)
    world.provider.script = ["dead"]
    world.into_margin()
    assert await ask(world) == "SignInNeeded"
    assert await ask(world) == "SignInNeeded"
    assert len(world.provider.used) == 1
    world.sign_in(world.provider.first(), version=2)
    assert (await world.grant()).token_version == 2


async def test_scopes_and_kind_of_the_answer() -> None:
    """Scopes that the answer names replace the old ones."""
    world = World(STEADY)
    world.into_margin()

    async def exchange(_token: Secret) -> Renewed:
        return Renewed(access_token=Secret("a"), expires_in=10, scopes=("less",), token_type="MAC")

    grant = await world.clock.run(world.refresher.grant(CONNECTION, exchange, STEADY))
    assert (grant.scopes, grant.token_type) == (("less",), "MAC")


# --- peace for the provider ------------------------------------------------------------------------------------------


async def test_after_a_fault_the_provider_is_left_in_peace() -> None:
    """Right after a fault nobody calls; the old grant is given while it lives, and TryLater names the seconds."""
    world = World(STEADY)
    world.into_margin()
    world.provider.script = ["500"] * 9
    assert await ask(world) == "old"
    assert await ask(world) == "old"
    with pytest.raises(TryLater) as later:
        await world.grant(force_after=1)
    assert 0 < later.value.after <= 5
    assert len(world.provider.used) == 1
    world.clock.time += later.value.after
    assert await ask(world) == "old"
    assert len(world.provider.used) == 2


async def test_retry_after_is_honoured() -> None:
    """Nobody calls before the seconds that the provider asked for, also where a second try would be quick."""
    world = World(GRACE)
    world.past_expiry()
    calls = 0

    async def busy(_token: Secret) -> Unclear:
        nonlocal calls
        calls += 1
        return Unclear(reason="status 429", after=120)

    for wait in (0, 100, 19):
        world.clock.time += wait
        with pytest.raises(TryLater) as later:
            await world.clock.run(world.refresher.grant(CONNECTION, busy, GRACE))
        assert later.value.after >= 1
    assert calls == 1
    world.clock.time += 1.1
    with pytest.raises(TryLater):
        await world.clock.run(world.refresher.grant(CONNECTION, busy, GRACE))
    assert calls == 2


async def test_a_refused_registration_is_not_asked_again_at_once() -> None:
    """Callers are told that the registration is broken without a call; after a while one looks again."""
    world = World(GRACE)
    world.past_expiry()
    world.provider.script = ["client"]
    assert [await ask(world), await ask(world)] == ["ClientBroken", "ClientBroken"]
    assert len(world.provider.used) == 1
    world.clock.time += 6
    assert await ask(world) == "new"


# --- many callers, many processes ------------------------------------------------------------------------------------


@pytest.mark.rows("C10")
@pytest.mark.parametrize("rotation", EVERY)
async def test_any_order_of_callers_makes_one_call(rotation: Rotation) -> None:
    """C10: whenever they come, in whichever of five processes, and however slow the provider is: one call, with one token, at a time."""
    for seed in range(SEEDS):
        chance = random.Random(seed)
        world = World(rotation, takes=chance.uniform(0, 35))
        world.past_expiry()
        processes = [world.process() for _ in range(5)]

        async def call(process: Refresher, after: float, world: World = world) -> int:
            await world.clock.sleep(after)
            while True:
                try:
                    return (await process.grant(CONNECTION, world.exchange, rotation)).token_version
                except TryLater as later:
                    await world.clock.sleep(later.after)

        callers = [call(chance.choice(processes), chance.choice([0, chance.uniform(0, 40)])) for _ in range(20)]
        assert set(await world.clock.run(asyncio.gather(*callers))) == {2}, seed
        assert (len(world.provider.used), world.provider.most_at_once) == (1, 1), seed


@pytest.mark.rows("C10")
@pytest.mark.parametrize("rotation", EVERY)
async def test_twenty_callers_make_one_call(rotation: Rotation) -> None:
    """C10: twenty callers in one process share one refresh, and nobody polls."""
    world = World(rotation, takes=5)
    world.past_expiry()
    grants = await world.clock.run(asyncio.gather(*(world.refresher.grant(CONNECTION, world.exchange, rotation) for _ in range(20))))
    assert len({grant.access_token.reveal() for grant in grants}) == 1
    assert len(world.provider.used) == 1
    assert world.rows.steps.count("before lease") == 1


@pytest.mark.rows("C10")
@pytest.mark.parametrize("rotation", EVERY)
async def test_twenty_processes_make_one_call(rotation: Rotation) -> None:
    """C10: twenty processes share one refresh through the lease; who has a live token does not wait for it."""
    world = World(rotation, takes=5)
    world.past_expiry()
    processes = [world.process() for _ in range(20)]
    grants = await world.clock.run(asyncio.gather(*(process.grant(CONNECTION, world.exchange, rotation) for process in processes)))
    assert {grant.token_version for grant in grants} == {2}
    assert len(world.provider.used) == 1


async def test_a_live_token_does_not_wait_for_another_process() -> None:
    """Within the margin, while another process refreshes, the old grant is given at once."""
    world = World(GRACE, takes=5)
    world.into_margin()
    first = asyncio.ensure_future(world.refresher.grant(CONNECTION, world.exchange, GRACE))
    while not world.provider.used:
        await asyncio.sleep(0)
    before = world.clock.time
    assert (await world.grant(world.process())).token_version == 1
    assert world.clock.time == before
    assert (await world.clock.run(first)).token_version == 2


async def test_a_lease_that_never_ends_is_not_waited_for_forever() -> None:
    """While another owner renews the lease again and again, a caller gets TryLater after one lease."""
    world = World(GRACE)
    world.past_expiry()

    async def always(connection: str, owner: str, now: Callable[[], int], length: int) -> None:
        return None

    world.rows.lease = always  # type: ignore[method-assign]  # a lease that never comes
    before = world.clock.time
    assert await ask(world) == "TryLater"
    assert world.clock.time - before <= 41


async def test_the_lease_of_a_dead_process_is_waited_out() -> None:
    """A caller waits for the lease of a process that died, and then goes on; nobody calls before."""
    world = World(STEADY)
    world.past_expiry()
    now = world.clock.now()
    world.rows.rows[CONNECTION] = replace(world.row, lease_owner="gone", lease_until=now + 30 * SECOND, fence=8)
    before = world.clock.time
    assert await ask(world) == "new"
    assert 30 <= world.clock.time - before <= 31


async def test_tokens_are_kept_although_the_lease_ended() -> None:
    """A provider slower than the lease: the late answer is kept and given to both, for these tokens exist once."""
    world = World(Rotation(rotates=True), takes=100)
    world.past_expiry()
    slow = asyncio.ensure_future(world.refresher.grant(CONNECTION, world.exchange, world.rotation))
    while not world.provider.used:
        await asyncio.sleep(0)
    world.provider.takes = 30
    second = asyncio.ensure_future(world.process().grant(CONNECTION, world.exchange, world.rotation))
    one, other = await world.clock.run(asyncio.gather(slow, second))
    assert one == other
    assert world.provider.accepts(one)
    assert one.refresh_token == Secret(world.provider.good)
    assert world.row.state == "good"


@pytest.mark.rows("C12")
async def test_a_dead_answer_to_an_old_version_is_no_death() -> None:
    """When a sign-in replaced the row during the call, `invalid_grant` concerns nobody: the new grant is given."""
    world = World(GRACE)
    world.past_expiry()

    async def exchange(token: Secret) -> object:
        world.sign_in(world.provider.first(), version=2)
        world.provider.script = ["dead"]
        return await world.provider(token)

    grant = await world.clock.run(world.refresher.grant(CONNECTION, exchange, GRACE))  # type: ignore[arg-type]  # object is an Answer
    assert grant.token_version == 2
    assert world.row.state == "good"


@pytest.mark.rows("C12")
async def test_a_sign_in_during_a_refresh_wins() -> None:
    """New tokens of an old grant do not replace the grant of a newer sign-in."""
    world = World(STEADY)
    world.past_expiry()

    async def exchange(_token: Secret) -> Renewed:
        world.sign_in(world.provider.first(), version=2)
        return Renewed(access_token=Secret("late"))

    grant = await world.clock.run(world.refresher.grant(CONNECTION, exchange, STEADY))
    assert grant.token_version == 2
    assert grant.access_token != Secret("late")


async def test_a_caller_who_gives_up_does_not_cut_off_the_exchange() -> None:
    """Cancelling every caller leaves the refresh running, and its tokens are kept."""
    world = World(GRACE, takes=5)
    world.past_expiry()
    caller = asyncio.ensure_future(world.refresher.grant(CONNECTION, world.exchange, GRACE))
    while not world.provider.used:
        await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    await world.clock.run(world.refresher.finish())
    assert world.row.token_version == 2
    assert (await world.grant()).token_version == 2
    assert len(world.provider.used) == 1


@pytest.mark.parametrize("call", ["intend", "probe"])
async def test_who_loses_the_lease_does_not_call(call: str) -> None:
    """A process that was too slow stops before the provider; a live token is still given."""
    world = World(GRACE)
    world.past_expiry()
    world.rows.errors[call] = [LeaseLost(CONNECTION)]
    assert await ask(world) == "TryLater"
    assert world.provider.used == []


async def test_a_verdict_after_losing_the_lease_is_left_to_the_other() -> None:
    """Who lost the lease does not declare a grant dead."""
    world = World(GRACE)
    world.past_expiry()
    world.provider.script = ["dead"]
    world.rows.errors["settle"] = [LeaseLost(CONNECTION)]
    assert await ask(world) == "TryLater"
    assert world.row.state == "good"


def before_lease(world: World, change: Callable[[], None]) -> None:
    """Let something happen to the row after a caller has read it and before it gets the lease."""
    lease = world.rows.lease

    async def late(connection: str, owner: str, now: Callable[[], int], length: int) -> int | None:
        change()
        return await lease(connection, owner, now, length)

    world.rows.lease = late  # type: ignore[method-assign]  # the same, a little later


async def test_a_version_that_moved_before_the_lease_is_used() -> None:
    """Who gets the lease after another process has renewed gives that grant and calls nobody."""
    world = World(GRACE)
    world.past_expiry()
    before_lease(world, lambda: world.sign_in(world.provider.first(), version=2))
    assert (await world.grant()).token_version == 2
    assert world.provider.used == []
    assert world.row.lease_owner is None


async def test_an_intent_found_under_the_lease_counts() -> None:
    """Who finds only under the lease that a token may be spent does not use it either."""
    world = World(GRACE)
    world.into_margin()
    found = Intent(digest=digest(Secret("refresh-0")), at=world.clock.now() - 70 * SECOND, tries=2)
    before_lease(world, lambda: world.rows.rows.update({CONNECTION: replace(world.row, intent=found)}))
    assert await ask(world) == "old"
    assert world.provider.used == []
    assert (world.row.intent, world.row.lease_owner) == (found, None)


async def test_the_grace_counts_from_the_first_use() -> None:
    """A second lost answer does not prolong the grace, and holding a grant back writes nothing."""
    world = World(GRACE)
    world.into_margin()
    world.clock.time -= 60
    world.provider.script = ["500"] * 3
    assert await ask(world) == "old"
    world.restart()
    world.clock.time += 40
    assert await ask(world) == "old"
    assert len(world.provider.used) == 3
    world.restart()
    world.clock.time += 20
    steps = len(world.rows.steps)
    assert await ask(world) == "old"
    assert len(world.provider.used) == 3
    assert len(world.rows.steps) == steps


# --- crashes ---------------------------------------------------------------------------------------------------------


@pytest.mark.rows("C11")
@pytest.mark.parametrize("rotation", EVERY)
@pytest.mark.parametrize(
    "script",
    [
        ["ok"],
        ["slow"],
        ["time-out", "ok"],
        ["500 after", "ok"],
        ["time-out", "slow"],
        ["lost", "ok"],
        ["500", "ok"],
        ["lost", "500"],
        ["500", "500"],
        ["not sent"],
        ["dead"],
    ],
)
@pytest.mark.parametrize("away", [1.0, 30.0, 3600.0])
@pytest.mark.parametrize("alive", [True, False])
async def test_a_crash_at_any_step_loses_nothing_in_silence(rotation: Rotation, script: list[Fault], away: float, alive: bool) -> None:
    """C11: wherever a process dies, the next one ends with a grant that works, or with SignInNeeded where none can."""
    tried = 0
    for crash_at in range(100):
        world = World(rotation, lease=8)
        world.provider.script = list(script)
        world.into_margin() if alive else world.past_expiry()
        world.rows.crash_at = crash_at
        try:
            await ask(world)
        except Crash:
            tried += 1
        if world.rows.crash_at is not None:
            break  # it ended before that step: every one has been tried
        world.provider.script = [fault for fault in world.provider.script if fault == "dead"]
        rotated = world.provider.good != "refresh-0"
        crashed = world.clock.time
        world.clock.time += away
        world.restart()
        await recover(world, rotated=rotated, crashed=crashed)
    else:
        pytest.fail("a refresh has no end")
    assert tried >= 10


async def recover(world: World, *, rotated: bool, crashed: float) -> None:
    """Use the grant for three hours after a crash, and check what must hold."""
    kept = world.row.open(world.keyring).refresh_token == Secret(world.provider.good)
    had_died = world.row.state == "dead" or "dead" in world.provider.script
    calls = len(world.provider.used)
    for wait in (0, 1, 5, 10, 20, 40, 60, 60, 120, 240, 300, 600, 1200, 1800, 3600, 3600):
        world.clock.time += wait
        try:
            grant = await world.grant()
        except TryLater:
            continue
        except SignInNeeded:
            break
        assert world.provider.accepts(grant), "a token that does not work"
    signed_out = world.row.state == "dead"
    # Nothing is lost that was not: the provider had rotated and its answer had not been kept.
    if not had_died:
        assert signed_out == (rotated and not kept and world.rotation.rotates)
    assert len(world.provider.used) - calls <= 5
    assert all(world.provider.used.count(token) <= 3 for token in set(world.provider.used) if world.rotation.rotates)


async def test_a_crash_after_rotation_is_recovered_within_the_grace() -> None:
    """C11: died between the provider's rotation and our commit, back within a minute: an access token for the hour."""
    world = World(GRACE)
    world.past_expiry()
    world.rows.crash_at = world_step("after exchange")
    with pytest.raises(Crash):
        await world.grant()
    world.clock.time += 1
    world.rows.rows[CONNECTION] = replace(world.row, lease_owner="process-1")  # the same unit, started again
    world.restart()
    grant = await world.grant()
    assert world.provider.accepts(grant)
    assert (grant.refresh_token, world.row.state) == (None, "consent_soon")


async def test_a_crash_after_rotation_beyond_the_grace_is_told() -> None:
    """C11: back too late, the old token is tried once when nothing is left to lose, and the row then says dead."""
    world = World(GRACE)
    world.into_margin()
    world.rows.crash_at = world_step("after exchange")
    with pytest.raises(Crash):
        await world.grant()
    world.restart()
    world.clock.time += 50
    world.rows.rows[CONNECTION] = replace(world.row, lease_until=0)
    assert await ask(world) == "old"
    world.clock.time += 20
    assert await ask(world) == "SignInNeeded"
    assert (world.row.state, world.provider.used) == ("dead", ["refresh-0"] * 2)


def world_step(name: str) -> int:
    """Give the number of a step in an undisturbed refresh."""
    steps = ["lease", "intend", "probe", "exchange", "commit"]
    when, step = name.split()
    return 2 * steps.index(step) + (when == "after")


@pytest.mark.parametrize("rotation", EVERY)
async def test_a_restored_backup_is_verified_when_nothing_is_left_to_lose(rotation: Rotation) -> None:
    """A row in state verify is used while its token lives; then its refresh token shows whether it is still good."""
    world = World(rotation)
    world.rows.rows[CONNECTION] = replace(world.row, state="verify")
    world.into_margin()
    assert await ask(world) == ("old" if rotation.reuse_kills else "new")
    if rotation.reuse_kills:
        world.past_expiry()
        assert await ask(world) == "new"
    assert world.row.state == "good"


async def test_an_intent_of_another_token_means_nothing() -> None:
    """Only an intent that names the present refresh token makes it one that may be spent."""
    world = World(GRACE)
    stale = Intent(digest=digest(Secret("another")), at=0, tries=9)
    world.rows.rows[CONNECTION] = replace(world.row, intent=stale)
    world.into_margin()
    assert await ask(world) == "new"


# --- disk, keys, rows ------------------------------------------------------------------------------------------------


@pytest.mark.rows("C11")
@pytest.mark.parametrize("call", ["intend", "probe"])
async def test_a_full_disk_is_found_before_the_provider_rotates(call: str) -> None:
    """The disk's error reaches the caller, the provider was not called, and no intent stays behind."""
    world = World(GRACE)
    world.into_margin()
    world.rows.errors[call] = [OSError(28, "No space left on device")]
    with pytest.raises(OSError, match="No space"):
        await world.grant()
    assert world.provider.used == []
    assert (world.row.intent, world.row.lease_owner) == (None, None)
    assert await ask(world) == "new"


async def test_a_disk_that_also_refuses_to_settle_shows_its_first_error() -> None:
    """The caller sees what came first, and the leftover intent does no harm later."""
    world = World(GRACE)
    world.into_margin()
    world.rows.errors = {"probe": [OSError("first")], "settle": [OSError("second")]}
    with pytest.raises(OSError, match="first"):
        await world.grant()
    world.past_expiry()
    assert await ask(world) == "new"
    assert world.row.state == "good"


@pytest.mark.rows("C11")
async def test_new_tokens_are_offered_to_a_failing_disk_again() -> None:
    """A commit that fails is tried again before the tokens are given up; then the error reaches the caller."""
    world = World(GRACE)
    world.into_margin()
    world.rows.errors["commit"] = [OSError("disk")] * 3
    assert await ask(world) == "new"
    world.into_margin()
    world.rows.errors["commit"] = [OSError("disk")] * 4
    with pytest.raises(OSError, match="disk"):
        await world.grant()
    assert world.row.intent is not None
    assert len(world.provider.used) == 2


async def test_a_commit_that_failed_after_all_was_done() -> None:
    """An error from a commit that took hold does no harm: the version moved to our own tokens."""
    world = World(GRACE)
    world.into_margin()
    commit = world.rows.commit

    async def done_but_failed(*arguments: object) -> None:
        world.rows.commit = commit  # type: ignore[method-assign]  # only once
        await commit(*arguments)  # type: ignore[arg-type]  # as they came
        raise OSError("the answer was lost")

    world.rows.commit = done_but_failed  # type: ignore[method-assign, assignment]  # a commit with a bad end
    grant = await world.grant()
    assert world.provider.accepts(grant)
    assert grant.refresh_token == Secret(world.provider.good)


async def test_moved_and_unknown_rows_are_refused() -> None:
    """A row that was sealed elsewhere, or with a key that is not here, is an error and costs no call."""
    world = World(GRACE)
    world.rows.rows[CONNECTION] = replace(world.row, user="somebody else")
    with pytest.raises(Tampered):
        await world.grant()
    strange = Keyring([bytes([9]) * 32]).seal(world.row.context(), b"")
    world.rows.rows[CONNECTION] = replace(world.row, sealed=strange)
    with pytest.raises(KeyUnknown):
        await world.grant()
    assert world.provider.used == []


async def test_no_row() -> None:
    """A connection without a credential is said to have none, also when it goes during a refresh."""
    world = World(GRACE)
    world.into_margin()
    world.provider.script = ["dead"]
    world.rows.errors["read"] = []

    async def erased(token: Secret) -> object:
        del world.rows.rows[CONNECTION]
        return await world.provider(token)

    with pytest.raises(CredentialGone):
        await world.clock.run(world.refresher.grant(CONNECTION, erased, GRACE))  # type: ignore[arg-type]  # object is an Answer
    with pytest.raises(CredentialGone, match="Connect it first"):
        await world.grant()
    world.refresher.forget(CONNECTION)


# --- the clock -------------------------------------------------------------------------------------------------------


@pytest.mark.rows("C15")
async def test_a_clock_set_back_does_not_revive_a_token() -> None:
    """C15: an hour back, the token is renewed when its life is over by the monotonic clock; no dead token is given."""
    world = World(STEADY)
    await world.grant()
    world.clock.step_wall(-HOUR)
    for _ in range(180):
        assert world.provider.accepts(await world.grant())
        world.clock.time += 60
    assert len(world.provider.used) == 3


@pytest.mark.rows("C15")
async def test_a_clock_set_back_between_two_processes() -> None:
    """C15: a token that seems to come from the future is renewed once, and not again and again."""
    world = World(STEADY)
    world.clock.step_wall(-HOUR)
    world.restart()
    versions = [(await world.grant()).token_version for _ in range(5)]
    assert versions == [2] * 5


@pytest.mark.rows("C15")
async def test_a_clock_set_forward_costs_one_refresh() -> None:
    """C15: an hour forward, each token is renewed once."""
    world = World(STEADY)
    await world.grant()
    world.clock.step_wall(HOUR)
    versions = [(await world.grant()).token_version for _ in range(5)]
    assert versions == [2] * 5


@pytest.mark.rows("C15")
async def test_a_lease_from_before_the_clock_was_set_back() -> None:
    """C15: a lease that would stand for an hour because the clock was set back is taken over."""
    world = World(STEADY)
    world.past_expiry()
    later = world.clock.now() + 3600 * SECOND
    world.rows.rows[CONNECTION] = replace(world.row, lease_owner="gone", lease_until=later, fence=3)
    before = world.clock.time
    assert await ask(world) == "new"
    assert world.clock.time == before


@pytest.mark.rows("C13")
@pytest.mark.timeout(7200)
async def test_two_days_of_many_connections() -> None:
    """C13: over two days no token is dead when used, each is renewed about hourly, and no half hour has twice the mean."""
    chance = random.Random(13)
    half_hours: Counter[int] = Counter()
    for _ in range(CONNECTIONS):
        world = World(GRACE)
        start = world.clock.time
        world.clock.time += chance.uniform(0, HOUR)
        while world.clock.time < start + 48 * HOUR:
            calls = len(world.provider.used)
            assert world.provider.accepts(await world.grant())
            half_hours[int((world.clock.time - start) / 1800)] += len(world.provider.used) - calls
            assert world.row.expires_at is not None
            left = (world.row.expires_at - world.clock.now()) / SECOND
            world.clock.time += left - 301 if left > 400 else 70
        assert 46 <= len(world.provider.used) <= 53
    mean = sum(half_hours.values()) / 96
    assert max(half_hours.values()) <= 2 * mean


def test_what_is_shown_of_a_row_and_a_grant() -> None:
    """Neither the row nor the grant shows a token or a ciphertext."""
    world = World(GRACE)
    shown = f"{world.row} {world.row.open(world.keyring)} {world.refresher}"
    assert "refresh-0" not in shown
    assert "access-1" not in shown
    assert "blob" not in shown
    assert isinstance(world.row.sealed, Sealed)
    assert isinstance(world.row.open(world.keyring), Grant)
    assert str(VersionMoved("c1")).startswith("The credential of c1")
