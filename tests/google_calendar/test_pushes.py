"""Push channels, through the daemon's own doors on a virtual clock: opened, believed, replaced, stopped, and done without."""

from __future__ import annotations

import pytest
from google_calendar.house import ADA, House
from oo_google_calendar.sandbox.channels import VIRTUAL

from oo_daemon.ports import SECOND
from oo_daemon.store import inbox
from oo_daemon.store.storage import InlineStorage

HOUR, DAY = 3600.0, 86_400.0


@pytest.fixture
async def pushed(house: House) -> House:
    """Signed in, synced, and pushed to."""
    assert await house.sign_in() == "connected"
    await house.tick()
    await passed(house, 60, 10)
    assert house.difference() == []
    return house


async def passed(house: House, seconds: float, step: float = HOUR) -> None:
    """Let time pass, with a look every so often."""
    for _ in range(round(seconds / step)):
        await house.clock.advance(step)
        await house.tick()


def watched(house: House) -> list[str]:
    """What is told of by some channel."""
    return sorted(channel.resource.rpartition("/")[0] for channel in house.channels() if channel.resource.endswith("/events"))


def engine(house: House) -> str:
    return next(id_ for id_ in house.world.calendars if id_.startswith("c_"))


async def test_a_channel_for_each_calendar_and_one_for_the_list(pushed: House) -> None:
    """Each has a token of its own, which is not the secret that it is made from."""
    assert watched(pushed) == sorted([ADA, engine(pushed)])
    assert [channel.resource for channel in pushed.channels() if "/events" not in channel.resource] == [f"{ADA}/calendarList"]
    tokens = {channel.token for channel in pushed.channels()}
    assert len(tokens) == 3
    assert {len(token) for token in tokens} == {64}
    (secret,) = [key.decode() for key in pushed.sources.named("google_calendar").held(pushed.clock.now())]
    assert secret not in tokens


async def test_what_is_pushed_is_synced_at_once(pushed: House) -> None:
    """A change is in the outbox seconds later, long before the next poll; the first message of a channel leads to nothing."""
    states = [push.headers["X-Goog-Resource-State"] for push in pushed.sandbox.channels.pushed]
    assert states == ["sync"] * 3
    planned = await pushed.schedule()
    assert planned.next_run_at is not None
    assert planned.next_run_at > pushed.clock.now() + 100 * SECOND
    pushed.add("Lunch")
    await passed(pushed, 30, 5)
    assert [title for _, _, title in pushed.told() if title == "Lunch"] == ["Lunch"]
    assert {push.state for push in pushed.sandbox.channels.pushed} == {"delivered"}


async def test_only_who_knows_the_channels_token_is_believed(pushed: House) -> None:
    """A token that is missing, invented, another channel's, or the secret behind them is refused, and nothing is kept."""
    one, other, *_ = pushed.channels()
    headers = {"X-Goog-Channel-ID": one.id, "X-Goog-Resource-State": "exists", "X-Goog-Message-Number": "7"}
    secret = pushed.sources.named("google_calendar").held(pushed.clock.now())[0].decode()
    before = await pushed.storage.read(inbox.depth)
    for token in ("", "x" * 64, other.token, secret):
        assert await pushed.post(one.address, {**headers, "X-Goog-Channel-Token": token}) == 404
    assert await pushed.post(one.address, headers) == 404
    assert await pushed.post(one.address, {**headers, "X-Goog-Channel-ID": other.id, "X-Goog-Channel-Token": one.token}) == 404
    assert await pushed.storage.read(inbox.depth) == before
    assert await pushed.post(one.address, {**headers, "X-Goog-Channel-Token": one.token}) == 200
    assert await pushed.storage.read(inbox.depth) == before + 1
    pushed.misbehaviour.on("forge_pushes", times=1)
    pushed.add("Lunch")
    assert [push.state for push in await pushed.deliver()] == ["failed"]


async def test_pushes_that_come_twice_or_not_at_all(pushed: House) -> None:
    """The same message twice is kept once; of one that never came the next poll tells what it would have."""
    pushed.misbehaviour.on("duplicate_pushes", times=1)
    pushed.add("Lunch")
    await passed(pushed, 30, 5)
    assert pushed.metrics.values()["webhooks_total", (("outcome", "repeated"), ("provider", "google_calendar"))] == 1
    pushed.misbehaviour.on("drop_pushes")
    pushed.add("Tea")
    await passed(pushed, 30, 5)
    assert pushed.difference() != []
    await passed(pushed, DAY)
    assert pushed.difference() == []


async def test_numbers_have_gaps(pushed: House) -> None:
    """Message numbers grow by more than one, and mean nothing."""
    for number in range(5):
        pushed.add(f"Lunch {number}")
        await passed(pushed, 30, 10)
    numbers = [int(push.headers["X-Goog-Message-Number"]) for push in pushed.sandbox.channels.pushed if "exists" in push.headers.values()]
    assert len(numbers) == 5
    assert numbers[-1] - numbers[0] > 5
    assert pushed.difference() == []


@pytest.mark.rows("A23")
async def test_each_is_replaced_before_it_ends(pushed: House) -> None:
    """For a month something always tells of each calendar; the next one pushes before the one before is stopped, and none is left over."""
    overlaps = set()
    stop = pushed.sandbox.channels.close

    def closing(id_: object, resource_id: object, email: str, client: str) -> None:
        overlaps.add((len(pushed.channels()), pushed.sandbox.channels.channels[str(id_)].ends_at > pushed.world.now()))
        stop(id_, resource_id, email, client)

    pushed.sandbox.channels.close = closing  # type: ignore[method-assign]
    for _ in range(30 * 2):
        await passed(pushed, DAY / 2, DAY / 2)
        assert watched(pushed) == sorted([ADA, engine(pushed)])
        assert len(pushed.channels()) == 3
    assert overlaps == {(4, True)}
    assert len(pushed.sandbox.channels.channels) == 3 * 9
    pushed.add("Lunch")
    await passed(pushed, 30, 10)
    assert pushed.difference() == []


async def test_an_answer_that_was_lost_leaves_no_orphan(house: House) -> None:
    """A channel of which we never heard is stopped, though only the lost answer had what it takes to stop it."""
    await house.sign_in()
    house.line.lose = 1
    await house.tick()
    (orphan,) = house.channels()
    await passed(house, 10 * 60, 60)
    assert len(house.channels()) == 3
    assert orphan.id not in {channel.id for channel in house.channels()}
    assert orphan.stopped
    assert all(channel.stopped for channel in house.sandbox.channels.channels.values() if channel not in house.channels())
    assert house.subscribing.sources.named("google_calendar").closed == ""


async def test_where_we_cannot_be_reached(storage: InlineStorage) -> None:
    """Without an address that Google can push to no channel is opened, and polls bring everything."""
    house = House(storage, public_url="http://oo.example")
    await house.sign_in()
    await passed(house, HOUR, 300)
    house.add("Lunch")
    await passed(house, HOUR, 300)
    assert house.sandbox.channels.channels == {}
    assert house.difference() == []
    assert not house.log.said("subscription_failed")


async def test_an_address_that_google_does_not_push_to(house: House) -> None:
    """It is said what is to be done, the connection goes on, and polls stand in; once it is done channels are opened."""
    house.misbehaviour.on("refuse_channels")
    await house.sign_in()
    await passed(house, HOUR, 300)
    assert "verify its host" in house.log.said("subscription_failed")[0]["reason"]
    assert (await house.connection()).state == "active"
    house.add("Lunch")
    await passed(house, HOUR, 300)
    assert house.difference() == []
    house.misbehaviour.off()
    await passed(house, 2 * HOUR, 300)
    assert len(house.channels()) == 3


async def test_calendars_of_which_nothing_is_pushed(house: House) -> None:
    """Public holidays are read by polls; the other calendars have their channels all the same."""
    holidays = house.world.add_calendar(ADA, "Holidays", id_=f"en.uk#holiday{VIRTUAL}")
    await house.sign_in()
    await passed(house, HOUR, 300)
    assert watched(house) == sorted([ADA, engine(house)])
    assert not house.log.said("subscription_failed")
    house.add("Boxing Day", calendar=holidays.id.replace("#", "%23"))
    await passed(house, DAY)
    assert house.difference() == []


async def test_channels_follow_the_calendars(pushed: House) -> None:
    """A calendar that comes has a channel within a day, and one that goes has none any more; a push tells of both at once."""
    garden = pushed.world.add_calendar(ADA, "Garden")
    await passed(pushed, 30, 10)
    assert pushed.difference() == []
    await passed(pushed, DAY + HOUR)
    assert garden.id in watched(pushed)
    pushed.world.remove_calendar(garden)
    await passed(pushed, DAY + HOUR)
    assert garden.id not in watched(pushed)
    assert pushed.difference() == []


async def test_another_secret_replaces_the_channels(pushed: House) -> None:
    """When the secret of the address is changed every channel is replaced before the one before it is refused."""
    before = {channel.token for channel in pushed.channels()}
    await pushed.sources.rotate("google_calendar", None)
    await passed(pushed, 60, 10)
    assert len(pushed.channels()) == 3
    assert before.isdisjoint(channel.token for channel in pushed.channels())
    await passed(pushed, 2 * DAY)
    pushed.add("Lunch")
    assert [push.state for push in await pushed.deliver()] == ["delivered"]


@pytest.mark.rows("D13")
async def test_channels_are_stopped_before_the_access_is_given_back(pushed: House) -> None:
    """With the grant would go what it takes to stop them. A late push is answered, and tells nothing."""
    late = pushed.channels()[0]
    pushed.line.asked.clear()
    await pushed.disconnect.begin(await pushed.connection())
    await pushed.clock.until(pushed.worker.tick())
    await passed(pushed, 60, 10)
    asked = [asked.path[-1] for asked in pushed.line.asked if asked.method == "POST"]
    assert asked == ["stop", "stop", "stop", "revoke"]
    assert pushed.channels() == []
    assert (await pushed.connection()).state == "disconnected"
    begin = len(pushed.events())
    headers = {"X-Goog-Channel-ID": late.id, "X-Goog-Channel-Token": late.token, "X-Goog-Resource-State": "exists"}
    assert await pushed.post(late.address, headers) == 200
    await passed(pushed, 60, 10)
    assert len(pushed.events()) == begin
