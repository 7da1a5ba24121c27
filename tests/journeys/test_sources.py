"""The generic webhook door: anything that can post becomes events, and an address ends with its connection."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from journeys.house import House
from journeys.test_webhooks import PATIENCE, sender

from oo_client import Event, GivenSource, Refused

GITHUB = Path(__file__).parents[2].parent / "shared" / "realdata" / "webhooks" / "github"


async def add(house: House, name: str = "hooks", scheme: str = "github", **more: Any) -> GivenSource:
    async with house.client as client:
        return await client.add_source(name, user="ada", scheme=scheme, **more)


async def post(url: str, body: bytes, headers: Mapping[str, str], method: str = "POST") -> tuple[int, bytes]:
    async with sender() as session, session.request(method, url, data=body, headers=headers) as response:
        return response.status, await response.read()


def github(secret: str | None, body: bytes, id_: str, event: str = "push") -> dict[str, str]:
    made = hmac.digest((secret or "").encode(), body, hashlib.sha256).hex()
    return {"X-Hub-Signature-256": f"sha256={made}", "X-GitHub-Delivery": id_, "X-GitHub-Event": event, "Content-Type": "application/json"}


async def settled(house: House) -> None:
    async with asyncio.timeout(PATIENCE), house.client as client:
        while await client.deliveries(state="received"):
            continue


async def events(house: House) -> list[Event]:
    """What came in by webhooks."""
    await settled(house)
    return [event for event in await house.events(provider="webhook") if event.type.startswith("webhook.")]


async def test_anything_that_can_post_becomes_an_event(house: House) -> None:
    """An address and its secret are made, a signed body is an event with its whole payload, and a second one is another."""
    made = await add(house)
    assert made.secret is not None
    assert len(made.url.rpartition("/")[2]) == 43, "256 bits"
    for number, id_ in ((1, "g-1"), (2, "g-2"), (2, "g-2")):
        body = json.dumps({"action": "opened", "number": number, "repository": {"full_name": "ada/engine"}}).encode()
        assert await post(made.url, body, github(made.secret, body, id_, "issues")) == (200, b"")
    first, second = await events(house)
    assert (first.type, first.subject, first.user, first.account, first.change) == (
        "webhook.github.issues.opened",
        "ada/engine",
        "ada",
        "hooks",
        "occurred",
    )
    assert (first.payload or {})["fields"]["number"] == 1
    assert first.id != second.id
    forged = github("guess", b"{}", "g-3")
    assert (await post(made.url, b"{}", forged))[0] == 404
    async with house.client as client:
        (listed,) = await client.sources()
    assert (listed.id, listed.scheme, listed.verified, listed.state, len(listed.secrets)) == ("hooks", "github", True, "open", 1)
    assert made.secret not in house.log.getvalue()
    assert made.url.rpartition("/")[2] not in house.log.getvalue()


@pytest.mark.skipif(not GITHUB.exists(), reason="the recorded payloads are not on this machine")
async def test_every_recorded_payload_of_github(house: House) -> None:
    """Each of them, signed, is one event named after what GitHub calls it."""
    made, wanted = await add(house), Counter[str]()
    files = sorted(GITHUB.rglob("*payload.json"))
    assert files
    async with sender() as session:
        for file in files:
            body, event = file.read_bytes(), file.parent.name
            action = json.loads(body).get("action")
            wanted["webhook." + ".".join(["github", event, *([action.lower()] if action else [])])] += 1
            headers = github(made.secret, body, str(file.relative_to(GITHUB)), event)
            async with session.post(made.url, data=body, headers=headers) as response:
                assert response.status == 200, file
    found = await events(house)
    assert Counter(event.type for event in found) == wanted
    assert all(event.payload and event.payload["fields"] for event in found)


@pytest.mark.rows("A10")
async def test_no_delivery_is_refused_while_secrets_change(house: House) -> None:
    """Under a thousand signed posts the secret is staged, made current and made anew; after its end the old one is refused."""
    made = await add(house)
    secrets = [made.secret]
    refused: list[int] = []
    posted = 0

    async def send(session: aiohttp.ClientSession, lane: int) -> None:
        nonlocal posted
        for number in range(125):
            body = f'{{"n": {number}}}'.encode()
            headers = github(secrets[-1], body, f"{lane}-{number}")
            async with session.post(made.url, data=body, headers=headers) as response:
                posted += 1
                if response.status != 200:
                    refused.append(response.status)

    async def rotate() -> None:
        async with house.client as client:
            for turn in range(3):
                while posted < 250 * (turn + 1):
                    await asyncio.sleep(0)
                if turn == 0:
                    staged = await client.rotate_source("hooks", staged=True)
                    assert [each.role for each in staged.secrets] == ["current", "next"]
                    secrets.append(staged.secret)
                    assert (await client.rotate_source("hooks")).secret is None
                else:
                    secrets.append((await client.rotate_source("hooks")).secret)

    async with sender() as session:
        await asyncio.gather(rotate(), *(send(session, lane) for lane in range(8)))
    assert (posted, refused) == (1000, [])
    async with house.client as client:
        last = await client.rotate_source("hooks", keep=0)
    assert (await post(made.url, b"{}", github(secrets[-1], b"{}", "late")))[0] == 404
    assert (await post(made.url, b"{}", github(last.secret, b"{}", "new")))[0] == 200


async def test_handshakes(house: House) -> None:
    """Slack, Zoom, Dropbox, Meta and Notion are answered as they want it, and none of that becomes an event."""
    slack, zoom = await add(house, "slack", "slack", secret="s3cret"), await add(house, "zoom", "zoom", secret="s3cret")
    now = str(int(time.time()))

    def signed(name: str, when: str, body: bytes) -> dict[str, str]:
        return {name: "v0=" + hmac.digest(b"s3cret", f"v0:{now}:".encode() + body, hashlib.sha256).hex(), when: now}

    body = b'{"type":"url_verification","challenge":"abc"}'
    assert await post(slack.url, body, signed("X-Slack-Signature", "X-Slack-Request-Timestamp", body)) == (200, b"abc")
    assert (await post(slack.url, body, {}))[0] == 404
    body = b'{"event":"endpoint.url_validation","payload":{"plainToken":"abc"}}'
    status, answer = await post(zoom.url, body, signed("x-zm-signature", "x-zm-request-timestamp", body))
    assert (status, json.loads(answer)["plainToken"]) == (200, "abc")
    dropbox, meta = await add(house, "dropbox", "dropbox", secret="s3cret"), await add(house, "meta", "meta", secret="s3cret")
    assert await post(f"{dropbox.url}?challenge=xyz", b"", {}, "GET") == (200, b"xyz")
    assert (await post(dropbox.url, b"", {}, "GET"))[0] == 404
    token = meta.url.rpartition("/")[2]
    asked = f"?hub.mode=subscribe&hub.challenge=42&hub.verify_token={token}"
    assert await post(meta.url + asked, b"", {}, "GET") == (200, b"42")
    assert (await post(f"{meta.url}?hub.mode=subscribe&hub.challenge=42&hub.verify_token=guess", b"", {}, "GET"))[0] == 404

    notion = await add(house, "notion", "notion")
    assert (notion.state, notion.secret) == ("waiting", None)
    first = b'{"verification_token":"secret_tMrlL1qK5vuQAh1b6cZGhFChZTSYJlce"}'
    proof = hmac.digest(b"secret_tMrlL1qK5vuQAh1b6cZGhFChZTSYJlce", first, hashlib.sha256).hex()
    assert (await post(notion.url, first, {"X-Notion-Signature": "sha256=00"}))[0] == 404
    assert (await post(notion.url, first, {"X-Notion-Signature": f"sha256={proof}"}))[0] == 200
    async with house.client as client:
        known = await client.source("notion")
    assert (known.state, known.secret) == ("open", "secret_tMrlL1qK5vuQAh1b6cZGhFChZTSYJlce")
    other = b'{"verification_token":"another_secret_of_somebody_else"}'
    proof = hmac.digest(b"another_secret_of_somebody_else", other, hashlib.sha256).hex()
    assert (await post(notion.url, other, {"X-Notion-Signature": f"sha256={proof}"}))[0] == 404, "the first one stays"
    assert await events(house) == []


@pytest.mark.rows("A9")
async def test_what_is_not_verified_is_said(house: House) -> None:
    """`none` must be written out and shows in the status; a sender that makes its secret is refused until it is given."""
    with pytest.raises(Refused, match="how the sender proves itself"):
        await add(house, scheme="")
    with pytest.raises(Refused, match="no scheme md5"):
        await add(house, scheme="md5")
    with pytest.raises(Refused, match="must not be empty"):
        await add(house, secret="")
    bell, stripe = await add(house, "bell", "none"), await add(house, "stripe", "stripe")
    assert (bell.verified, bell.secret, bell.state) == (False, None, "open")
    assert (stripe.state, stripe.secret) == ("closed", None)
    assert "oo source rotate stripe --secret-file" in stripe.reason
    unsigned = hmac.digest(b"", b"1.{}", hashlib.sha256).hex()
    assert (await post(stripe.url, b"{}", {"Stripe-Signature": f"t=1,v1={unsigned}"}))[0] == 404
    assert (await post(bell.url, b"pressed", {}))[0] == 200
    assert (await post(bell.url, b"pressed", {}))[0] == 200
    async with house.client as client:
        assert (await client.status()).unverified_sources == ("bell",)
        assert (await client.rotate_source("stripe", secret="whsec_x")).state == "open"
        with pytest.raises(Refused, match="no secret of its own"):
            await client.rotate_source("bell")
    assert len(await events(house)) == 2, "two presses of a button are two events"


async def test_the_address_ends_with_its_connection(house: House) -> None:
    """A disconnected one takes nothing more; made again it has another address and secret, and the old ones are of no use."""
    made = await add(house)
    with pytest.raises(Refused, match="already"):
        await add(house)
    async with house.client as client:
        (connection,) = await client.connections()
        assert (connection.provider, connection.account, connection.next_sync_at) == ("webhook", "hooks", None)
        gone = await client.disconnect(connection.id, wait=5)
        assert gone.state == "disconnected"
    assert (await post(made.url, b"{}", github(made.secret, b"{}", "g-1")))[0] == 404
    again = await add(house)
    assert again.url != made.url
    assert (await post(made.url, b"{}", github(made.secret, b"{}", "g-1")))[0] == 404
    assert (await post(again.url, b"{}", github(again.secret, b"{}", "g-1")))[0] == 200
    assert len(await events(house)) == 1


async def test_one_that_is_switched_off(house: House) -> None:
    """It refuses everything, also after a restart, until it is opened again."""
    made = await add(house)
    async with house.client as client:
        assert (await client.switch_source("hooks", False)).state == "closed"
    assert (await post(made.url, b"{}", github(made.secret, b"{}", "g-1")))[0] == 404
    await house.stop()
    await house.start()
    async with house.client as client:
        assert [each.state for each in await client.sources()] == ["closed"]
        opened = await client.switch_source("hooks", True)
    assert (await post(opened.url, b"{}", github(made.secret, b"{}", "g-1")))[0] == 200


async def test_a_rehearsal_keeps_nothing(house: House) -> None:
    """What a body would become is shown with the id that it would have, and is in no inbox and no outbox."""
    made = await add(house, options={"subject": "body.n"})
    async with house.client as client:
        (tried,) = await client.try_source("hooks", b'{"n": 7}', {"X-GitHub-Event": "push", "X-GitHub-Delivery": "g-1"})
        assert (tried.type, tried.subject) == ("webhook.github.push", "7")
        assert await client.deliveries() == ()
        with pytest.raises(Refused, match="options"):
            await client.add_source("x", user="ada", scheme="none", options={"type": "body.["})
    assert await events(house) == []
    await post(made.url, b'{"n": 7}', github(made.secret, b'{"n": 7}', "g-1"))
    assert [event.id for event in await events(house)] == [tried.id]


async def test_a_test_goes_all_the_way(house: House) -> None:
    """From the outside, through the address, into the outbox, for every scheme that we can sign for."""
    async with house.client as client:
        for scheme, secret in (
            ("standard", None),
            ("github", None),
            ("stripe", "whsec_x"),
            ("basic", None),
            ("bearer", None),
            ("none", None),
        ):
            await client.add_source(f"t-{scheme}", user="ada", scheme=scheme, secret=secret)
            assert await client.test_source(f"t-{scheme}") == 200
        public = base64.b64encode(bytes(32)).decode()
        await client.add_source("t-asymmetric", user="ada", scheme="standard-ed25519", secret=public)
        with pytest.raises(Refused, match="Only the sender"):
            await client.test_source("t-asymmetric")
    assert len(await events(house)) == 6


async def test_a_scheme_of_ones_own(house: House) -> None:
    """Each field of a plain keyed hash can be set; what makes no sense is refused with a sentence."""
    changes = {
        "header": "X-Sign",
        "encoding": "base64",
        "prefix": "v9 ",
        "signed": "{timestamp}~{body}",
        "algorithm": "sha1",
        "stamp": {"header": "X-Time", "within": "60"},
        "id_header": "X-Id",
        "keep": ["X-Kind"],
    }
    made = await add(house, "own", "hmac", changes=changes, options={"type": 'headers."x-kind"'})
    now = str(int(time.time()))
    proof = base64.b64encode(hmac.digest((made.secret or "").encode(), f"{now}~{{}}".encode(), "sha1")).decode()
    headers = {"X-Sign": f"v9 {proof}", "X-Time": now, "X-Id": "i", "X-Kind": "rang"}
    assert (await post(made.url, b"{}", headers))[0] == 200
    assert (await post(made.url, b"{}", {**headers, "X-Time": str(int(now) + 1)}))[0] == 404
    assert [event.type for event in await events(house)] == ["webhook.rang"]
    for wrong in ({"header": ""}, {"algorithm": "md5"}, {"ours": "true"}, {"nothing": "x"}, {"signed": "{id}"}, {"stamp": {"within": "x"}}):
        with pytest.raises(Refused):
            await add(house, "wrong", "hmac", changes=wrong)


@pytest.mark.rows("A19")
async def test_replay_tells_nothing_twice(house: House) -> None:
    """A delivery is worked on again under its id, by number or by source, and its event is not told again; without a body it is not."""
    made = await add(house)
    for number in range(3):
        body = f'{{"n": {number}}}'.encode()
        await post(made.url, body, github(made.secret, body, f"g-{number}"))
    before = await events(house)
    async with house.client as client:
        third, second, first = await client.deliveries()
        assert await client.replay(first=first.id, last=second.id) == (first.id, second.id)
        await settled(house)
        assert len(await client.replay(source="hooks", state="done")) == 3
        await settled(house)
        assert [each.state for each in await client.deliveries()] == ["done"] * 3
        assert (await client.delivery(first.id)).body == b'{"n": 0}'
        assert await client.drop(first=third.id, last=third.id) == (third.id,)
        assert (await client.delivery(third.id)).body is None
        assert await client.replay(first=third.id, last=third.id) == ()
        with pytest.raises(Refused, match="which"):
            await client.replay()
    assert [event.id for event in await events(house)] == [event.id for event in before]
