"""What is done again and again, and how often."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import Any

from oo_daemon.app.connecting import Connecting
from oo_daemon.app.ground import ARRIVED, CONFIRMED, ERASED, SOURCES, Ground, Role
from oo_daemon.app.reading import Reading
from oo_daemon.app.working import Working
from oo_daemon.connections import subscriptions as subscriptions_
from oo_daemon.connections.connect import Connect
from oo_daemon.connections.sources import Sources
from oo_daemon.connections.uploads import Uploads
from oo_daemon.ops.watch import Watch
from oo_daemon.outbox.retention import EVERY as RETENTION_EVERY
from oo_daemon.store.errors import CannotStore
from oo_daemon.store.storage import Engine
from oo_daemon.sync.duties import Duties, Job
from oo_daemon.sync.intake import Intake
from oo_daemon.sync.schedule import SchedulerTicker

#: Multiples of the tick, as it usually is, so that they wake the loop together.
CHECKPOINT_EVERY, IMPORTS_EVERY = 0.2, 0.6
#: How often the inbox is looked at; what arrives is worked on at once.
INTAKE_EVERY = 1.0
#: How often jobs are looked at that are to be tried again; what is asked for is begun at once.
JOBS_EVERY = 1.0
ERASING_EVERY = 1.0
TIDY_EVERY = 3600.0
#: How often grants that no connection has are given back.
GIVE_BACK_EVERY = 10.0
#: How often a rotation that was cut off is looked for.
KEYS_EVERY = 60.0
#: How often it is measured what is left of limits.
BUDGETS_EVERY = 15.0
#: How often it is looked whose provider may be asked about a code.
DEVICES_EVERY = 1.0
#: How often is looked all the same whether sources have changed.
SOURCES_EVERY = 15.0
#: How often what was counted is written: uses of credentials, times of deliveries.
USES_EVERY = 10.0


def begin(ground: Ground, connecting: Connecting, watch: Watch, working: Working, reading: Reading, stack: AsyncExitStack) -> None:
    """Begin all of it; it ends with the stack."""
    ticker = SchedulerTicker()

    async def dispatch() -> None:
        if not watch.disk.low:  # what a sync would bring could not be kept
            await working.dispatcher.tick()

    duties = Duties(storage=ground.storage, clock=ground.clock, owner=ground.owner)
    alone: Callable[[str, Job], Job] = (lambda name, job: job) if ground.storage.file else duties.alone
    if ground.storage.file is None:
        _hear(
            ground.storage,
            ground.role,
            sources=connecting.sources,
            taking=working.uploads,
            intake=working.intake,
            connect=connecting.connect,
        )
        ticker.every(SOURCES_EVERY, partial(_quietly, connecting.sources.load), "sources")
        stack.push_async_callback(duties.leave)
    jobs_here: list[tuple[float, Job, str]] = [
        (IMPORTS_EVERY, working.imports.tick, "imports"),
        (USES_EVERY, connecting.uses.write, "uses"),
        (USES_EVERY, working.latency.write, "latency"),
        (BUDGETS_EVERY, connecting.budgets.tell, "budgets"),
        (TIDY_EVERY, working.uploads.tidy, "tidy_uploads"),
        *watch.jobs(),
    ]
    if ground.role != "ingress":
        jobs_here += [
            (ground.settings.sync.tick, dispatch, "dispatch"),
            (JOBS_EVERY, working.worker.tick, "jobs"),
            (INTAKE_EVERY, working.intake.tick, "intake"),
            (ERASING_EVERY, alone("erasing", working.erasing.tick), "erasing"),
            (RETENTION_EVERY, alone("retention", reading.retention.tick), "retention"),
            (subscriptions_.EVERY, alone("subscriptions", working.subscribing.tick), "subscriptions"),
            (GIVE_BACK_EVERY, alone("give_back", connecting.give_back.tick), "give_back"),
            (DEVICES_EVERY, connecting.connect.poll, "devices"),
            (KEYS_EVERY, alone("keys", connecting.keys.go_on), "keys"),
            (TIDY_EVERY, alone("keep_alive", connecting.keep_alive.tick), "keep_alive"),
            (TIDY_EVERY, alone("tidy", connecting.connect.tidy), "tidy"),
            (TIDY_EVERY, alone("tidy_visits", connecting.visits.tidy), "tidy_visits"),
            (TIDY_EVERY, alone("tidy_inbox", working.intake.tidy), "tidy_inbox"),
            (TIDY_EVERY, alone("tidy_actions", working.actions.tidy), "tidy_actions"),
            (TIDY_EVERY, alone("tidy_budgets", connecting.budgets.tidy), "tidy_budgets"),
            (TIDY_EVERY, alone("tidy_uses", connecting.uses.tidy), "tidy_uses"),
            (TIDY_EVERY, alone("tidy_latency", working.latency.tidy), "tidy_latency"),
        ]
    if ground.storage.file is not None:
        jobs_here.append((CHECKPOINT_EVERY, ground.storage.tend, "checkpoint"))
    elif ground.role != "ingress":
        jobs_here.append((DEVICES_EVERY, connecting.connect.finish_confirmed, "confirmed"))
    for seconds, job, name in jobs_here:
        ticker.every(seconds, job, name)
    ticker.start()
    stack.push_async_callback(ticker.stop)


def _hear(storage: Engine, role: Role, *, sources: Sources, taking: Uploads, intake: Intake, connect: Connect) -> None:
    """Look where other daemons on the database say that something is new. Each of it is looked at every now and then all the same."""
    loop = asyncio.get_running_loop()
    wanted: set[asyncio.Task[None]] = set()

    def soon(look: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
        def begin() -> None:
            task = asyncio.ensure_future(_quietly(look))
            wanted.add(task)
            task.add_done_callback(wanted.discard)

        return begin

    def there(look: Callable[[], None]) -> Callable[[], None]:
        def ring() -> None:
            loop.call_soon_threadsafe(look)

        return ring

    for word, look in ((SOURCES, soon(sources.load)), (ERASED, soon(taking.tidy))):
        storage.on_word(word, there(look))
    if role != "ingress":
        for word, look in ((ARRIVED, intake.wake), (CONFIRMED, soon(connect.finish_confirmed))):
            storage.on_word(word, there(look))


async def _quietly(look: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with suppress(CannotStore):  # it is looked at again
        await look()
