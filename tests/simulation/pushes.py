"""The providers' webhooks: sent until somebody says 200, by senders who lose, repeat, delay and mix up."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from aiohttp import web
from multidict import CIMultiDict
from simulation.loop import Dead
from simulation.machine import NoReply
from simulation.provider import Provider, Thing, shown

from oo_daemon.ingress.answers import Refused
from oo_daemon.ingress.webhooks import PATH

if TYPE_CHECKING:
    from simulation.world import World

#: How often a sender tries, and the seconds it waits longer each time.
TRIES, WAIT = 10, 45.0


@dataclass(frozen=True)
class _Content:
    body: bytes

    def is_eof(self) -> bool:
        """All of it is here."""
        return True

    def read_nowait(self) -> bytes:
        """The body, in one piece."""
        return self.body


@dataclass(frozen=True)
class _Request:
    """As much of aiohttp's request as the door looks at."""

    method: str
    path: str
    headers: CIMultiDict[str]
    content: _Content
    content_length: int


@dataclass(frozen=True, kw_only=True)
class Push:
    """One webhook: what is sent, and what should come of it."""

    token: str  #: of the address
    account: str
    id: str
    body: bytes
    signature: str
    meant: bool = True  #: False: whatever answers 200 to it has taken what it should refuse


async def send(world: World, provider: Provider, account: str, thing: Thing) -> None:
    """Tell of a change. Nobody waits for a sender, so what it meets unexpectedly is said here."""
    try:
        await _send(world, provider, account, thing)
    except Exception as error:
        world.watch.broken.append(f"a sender met {type(error).__name__}: {error}")


async def _send(world: World, provider: Provider, account: str, thing: Thing) -> None:
    """Tell of a change, as this provider does."""
    difficult = provider.difficult("push")
    if difficult == "push_lost":
        return
    body = json.dumps({"account": account, "thing": shown(thing)}).encode()
    if difficult == "push_senseless":
        body = b"not JSON"
    if difficult == "push_for_a_stranger":
        body = body.replace(account.encode(), b"stranger")
    provider.numbers += 1
    push = Push(
        token=world.addresses[provider.name],
        account=account,
        id="" if difficult == "push_without_id" else f"d{provider.numbers}",
        body=body,
        signature=hmac.digest(world.push_secret(provider.name).encode(), body, hashlib.sha256).hex(),
    )
    world.happened["pushes"] += 1
    await asyncio.sleep(world.chance.uniform(200, 1200) if difficult == "push_late" else world.chance.uniform(0, 20))
    match difficult:
        case "push_twice_at_once":
            await asyncio.gather(_insist(world, provider, push), _insist(world, provider, push))
        case "push_again_after_200":
            await _insist(world, provider, push)
            await asyncio.sleep(world.chance.uniform(60, 900))
            await _insist(world, provider, push)
        case "push_answer_unseen":
            await _once(world, provider, push)
            await _insist(world, provider, push)
        case "push_forged":
            await _once(world, provider, replace(push, signature="00" * 32, meant=False))
            await _insist(world, provider, push)
        case "push_to_a_wrong_address":
            await _once(world, provider, replace(push, token="nowhere", meant=False))
            await _insist(world, provider, push)
        case _:
            await _insist(world, provider, push)


async def _insist(world: World, provider: Provider, push: Push) -> None:
    """Send until it is acknowledged, for a while."""
    for attempt in range(TRIES):
        if await _once(world, provider, push):
            return
        await asyncio.sleep(WAIT * (attempt + 1))
    world.happened["pushes given up"] += 1


async def _once(world: World, provider: Provider, push: Push) -> bool:
    """Send once; True: it was acknowledged, so it must be there."""
    headers = CIMultiDict({"x-signature": push.signature, "content-type": "application/json"})
    if push.id:
        headers["x-delivery"] = push.id
    request = _Request("POST", f"{PATH}{push.token}", headers, _Content(push.body), len(push.body))
    try:
        machine = world.anyone()
        answer: Any = await machine.ask(machine.webhooks.hear(cast(web.Request, request)), patience=10.0)
    except (Dead, NoReply):
        return False
    except Refused as refusal:
        answer = refusal
    if answer.status != 200:
        return False
    if not push.meant:
        world.watch.broken.append("a webhook was taken that was forged, or sent to an address that is not there")
    elif push.id:
        world.watch.promised("delivery", source=provider.name, delivery_id=push.id)
        world.acknowledged[provider.name, push.id] = push
    world.happened["pushes acknowledged"] += 1
    return True
