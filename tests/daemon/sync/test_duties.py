"""Duties: of several daemons one does a job, for as long as it is there."""

from __future__ import annotations

from daemon.sync.world import Hub

from oo_daemon.store.errors import CannotStore
from oo_daemon.sync.duties import HELD, KEPT_ON, LEFT, Duties


class _Refusing:
    """A storage whose disk is full."""

    async def write(self, *given: object) -> None:
        raise CannotStore("the disk is full")


async def test_one_of_several_does_a_job(hub: Hub) -> None:
    """Whoever came first keeps it; once that one is gone, or has left it, another does it."""
    done: list[str] = []
    daemons = {name: Duties(storage=hub.storage, clock=hub.clock, owner=name) for name in ("one", "two")}

    def job(name: str) -> object:
        async def work() -> None:
            done.append(name)

        return daemons[name].alone("tidy", work)

    jobs = {name: job(name) for name in daemons}

    async def round_of(*names: str) -> list[str]:
        done.clear()
        for name in names:
            await jobs[name]()  # type: ignore[operator]  # as it is given to whoever ticks
        return [*done]

    assert await round_of("one", "two", "one") == ["one", "one"]
    for _ in range(8):
        await hub.clock.advance(KEPT_ON)
        assert await round_of("two", "one") == ["one"]
    await hub.clock.advance(HELD - 1)
    assert await round_of("two") == []
    await hub.clock.advance(LEFT)
    assert await round_of("two") == ["two"], "the other has said nothing for as long as a duty is held"
    await hub.clock.advance(KEPT_ON)
    assert await round_of("one", "two") == ["two"], "who comes back finds it taken"
    await daemons["two"].leave()
    await hub.clock.advance(LEFT)
    assert await round_of("one") == ["one"]


async def test_nobody_does_what_may_be_anothers(hub: Hub) -> None:
    """Where the disk does not say whose a duty is, it is left alone; and it is no trouble to leave it then."""
    done: list[int] = []

    async def work() -> None:
        done.append(1)

    duties = Duties(storage=_Refusing(), clock=hub.clock, owner="one")  # type: ignore[arg-type]  # as much of one as is asked
    await duties.alone("tidy", work)()
    await duties.leave()
    assert done == []
