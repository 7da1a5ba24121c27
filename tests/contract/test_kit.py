"""The contract's tests are green on a connector that is right, and each of them is red on one that is broken in exactly that way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import pytest
from contract.notes import API, Account, Note, Notes, Page, Pushed, World

from oo_sdk import (
    Action,
    Address,
    ApiKey,
    Change,
    Checkpoint,
    Connector,
    ConnectorBug,
    ConnectorError,
    Context,
    Cursor,
    Delivery,
    Event,
    Flow,
    InHeader,
    KeyField,
    KeyFlow,
    News,
    Placeholder,
    Redirect,
    Revocation,
    Revoked,
    Scope,
    Sign,
    Signal,
    SignInAgain,
    Stored,
    StoredCredential,
    Subscription,
    decode,
)
from oo_sdk.testing import Broken, ConnectorContract, Provider, Request, Tape
from oo_sdk.vocabulary import Document

PUSHED = b'{"account": "ada", "note": {"id": "n1", "title": "Note 1"}}'


class NotesContract(ConnectorContract):
    connector = Notes
    acts: ClassVar[Mapping[str, Mapping[str, Any]]] = {"add_note": {"title": "Milk"}}
    deliveries: ClassVar[Sequence[Delivery]] = [
        Delivery(id="1", headers={}, body=PUSHED, received_at=datetime(2026, 11, 22, tzinfo=UTC)),
        Delivery(id="2", headers={}, body=PUSHED.replace(b"n1", b"n2"), received_at=datetime(2026, 11, 22, tzinfo=UTC)),
    ]

    def provider(self) -> Provider:
        return World()

    def things(self, provider: Provider) -> object:
        assert isinstance(provider, World)
        return provider.notes

    def standing(self, provider: Provider) -> object:
        assert isinstance(provider, World)
        return sorted(provider.hooks)


class TestNotes(NotesContract):
    """Nothing is wrong with this one."""


class Keyed(Notes):
    auth: ApiKey = ApiKey(fields=[KeyField("key", "API key"), KeyField("who", "Name", secret=False)])  # type: ignore[assignment]
    manual_revocation = "https://notes.example/keys"

    async def accept_key(self, flow: KeyFlow) -> StoredCredential:
        me = await flow.http.get(f"{API}/me", into=Account)
        return flow.stored().of(me.id, label=flow.told["who"])


class TestKeyed(NotesContract):
    """Nor with this one, whose users enter a key."""

    connector = Keyed


class AcceptsEveryKey(Keyed):
    async def accept_key(self, flow: KeyFlow) -> StoredCredential:
        return flow.stored().of("ada")


class AcceptsWhatIsRefused(Keyed):
    async def accept_key(self, flow: KeyFlow) -> StoredCredential:
        await flow.http.request("GET", f"{API}/me", accept=(401, 403))
        return flow.stored().of("ada")


class ThinksItIsRefused(Keyed):
    async def accept_key(self, flow: KeyFlow) -> StoredCredential:
        try:
            return await super().accept_key(flow)
        except ConnectorError:
            raise SignInAgain("no") from None


class AKeyThatCannotBeSent(Keyed):
    auth = ApiKey(sent=InHeader("X-Key", "{other}"))


class AKeyForEver(Keyed):
    manual_revocation = ""


class NoSentence(Notes):
    scopes = (Scope("read", "Notes"),)


class NoTitle(Notes):
    title = ""


class NoPurpose(Notes):
    stores = (Stored("note", "notes", "", ("title",)),)


class NothingDeclared(Notes):
    stores = ()


class TellsMore(Notes):
    stores = (Stored("note", "the texts of your notes", "show them elsewhere", ("text",)),)


class ForgetsState(Notes):
    async def begin_oauth(self, flow: Flow) -> Redirect:
        return Redirect((await super().begin_oauth(flow)).url.replace(flow.state, ""))


class NoChallenge(Notes):
    async def begin_oauth(self, flow: Flow) -> Redirect:
        return Redirect((await super().begin_oauth(flow)).url.replace("code_challenge=", "c="))


class ExchangesTwice(Notes):
    async def finish_oauth(self, flow: Flow, code: str) -> StoredCredential:
        await flow.exchange(code)
        return await super().finish_oauth(flow, code)


class KeepsTheCode(Notes):
    async def finish_oauth(self, flow: Flow, code: str) -> StoredCredential:
        return (await super().finish_oauth(flow, code)).of("ada", meta={"code": code})


class NoAccount(Notes):
    async def finish_oauth(self, flow: Flow, code: str) -> StoredCredential:
        return await flow.exchange(code)


class CountsSubjects(Notes):
    numbers = count()

    def event(self, ctx: Context, note: Note) -> Event:
        return Event("note", f"{note.id}-{next(self.numbers)}", Change.UPSERTED, payload=Document(title=note.title))


class ChangesPayloads(Notes):
    numbers = count()

    def event(self, ctx: Context, note: Note) -> Event:
        return Event("note", note.id, Change.UPSERTED, payload=Document(title=f"{note.title} {next(self.numbers)}"))


class NoCheckpointAtTheEnd(Notes):
    async def fetch_signals(self, ctx: Context, since: Cursor | None) -> AsyncIterator[Signal]:
        async for signal in super().fetch_signals(ctx, since):
            if not isinstance(signal, Checkpoint) or signal.cursor["cursor"] < 5:
                yield signal


class ChecksTooEarly(Notes):
    async def fetch_signals(self, ctx: Context, since: Cursor | None) -> AsyncIterator[Signal]:
        cursor, more = since["cursor"] if since else 0, True
        while more:
            page = await self.page(ctx, cursor)
            cursor, more = page.cursor, page.more
            yield Checkpoint({"cursor": cursor})
            for note in page.notes:
                yield self.event(ctx, note)
        yield Checkpoint({"cursor": cursor})


class OddCursor(Notes):
    async def fetch_signals(self, ctx: Context, since: Cursor | None) -> AsyncIterator[Signal]:
        async for signal in super().fetch_signals(ctx, None):
            yield Checkpoint({"cursor": (signal.cursor["cursor"],)}) if isinstance(signal, Checkpoint) else signal


class MigratesBadly(Notes):
    def migrate_cursor(self, cursor: Cursor, shape: int) -> Cursor | None:
        return {"cursor": cursor["position"]}


class RaisesItsOwn(Notes):
    async def page(self, ctx: Context, cursor: int) -> Page:
        answer = await ctx.http.request("GET", f"{API}/notes", params={"after": cursor}, accept=(500, 401, 410, 429))
        return decode(answer.body, Page)


class ForgetsTheWait(Notes):
    async def page(self, ctx: Context, cursor: int) -> Page:
        from oo_sdk import RetryLater

        try:
            return await super().page(ctx, cursor)
        except RetryLater:
            raise RetryLater from None


class LosesAPage(Notes):
    async def page(self, ctx: Context, cursor: int) -> Page:
        from oo_sdk import RetryLater

        try:
            return await super().page(ctx, cursor)
        except RetryLater:
            return Page(notes=[], cursor=cursor + 2, more=cursor + 2 < 5)


class SwallowsSignInAgain(Notes):
    async def page(self, ctx: Context, cursor: int) -> Page:
        try:
            return await super().page(ctx, cursor)
        except SignInAgain:
            return Page(notes=[], cursor=cursor, more=False)


class SignsByItself(Notes):
    async def page(self, ctx: Context, cursor: int) -> Page:
        body = {"token": Placeholder.ACCESS_TOKEN}
        answer = await ctx.http.request("GET", f"{API}/notes", params={"after": cursor}, json=body, sign=Sign.NOBODY)
        return decode(answer.body, Page)


class RenewsByItself(Notes):
    async def page(self, ctx: Context, cursor: int) -> Page:
        with suppress(ConnectorError):
            await ctx.http.post(f"{API}/token", form={"refresh_token": Placeholder.REFRESH_TOKEN}, sign=Sign.NOBODY)
        return await super().page(ctx, cursor)


class StopsAtAnEmptyPage(Notes):
    async def page(self, ctx: Context, cursor: int) -> Page:
        page = await super().page(ctx, cursor)
        return Page(notes=page.notes, cursor=page.cursor, more=page.more and bool(page.notes))


class NeedsANote(Notes):
    async def page(self, ctx: Context, cursor: int) -> Page:
        page = await super().page(ctx, cursor)
        if not page.notes:
            raise ConnectorBug("a page without notes")
        return page


class NamesATopicTwice(Notes):
    async def topics(self, ctx: Context) -> Sequence[str]:
        return ["notes", "notes"]


class GivesAnotherId(Notes):
    async def subscribe(self, ctx: Context, topic: str, address: Address) -> Subscription | None:
        return Subscription(id="mine", topic=topic)


class EndsWithoutAZone(Notes):
    async def subscribe(self, ctx: Context, topic: str, address: Address) -> Subscription | None:
        made = await super().subscribe(ctx, topic, address)
        assert made is not None
        return replace(made, expires_at=datetime(2027, 1, 1))  # noqa: DTZ001 - that is what is wrong with it


class OnlySaysThatItSubscribed(Notes):
    async def subscribe(self, ctx: Context, topic: str, address: Address) -> Subscription | None:
        return Subscription(id=address.id, topic=topic)


class MixesUpWhatItRenews(Notes):
    async def renew(self, ctx: Context, standing: Subscription, address: Address) -> Subscription | None:
        return replace(standing, id="mine")


class EndsNothing(Notes):
    async def end(self, ctx: Context, handle: str) -> None:
        return None


class FailsAtWhatHasEnded(Notes):
    async def end(self, ctx: Context, handle: str) -> None:
        await ctx.http.request("DELETE", f"{API}/hooks/{handle}")


class ForgetsOrphans(Notes):
    async def unsubscribe(self, ctx: Context, standing: Subscription, address: Address) -> None:
        if standing.handle:
            await super().unsubscribe(ctx, standing, address)


class LogsAddresses(Notes):
    async def subscribe(self, ctx: Context, topic: str, address: Address) -> Subscription | None:
        ctx.log.info("subscribing", secret=address.secret)
        return await super().subscribe(ctx, topic, address)


class MistakesDeadCursors(Notes):
    async def page(self, ctx: Context, cursor: int) -> Page:
        try:
            return await super().page(ctx, cursor)
        except ConnectorError as error:
            if type(error).__name__ == "CursorExpired":
                raise ConnectorBug("gone") from None
            raise


class AsksTheClock(Notes):
    def event(self, ctx: Context, note: Note) -> Event:
        return Event("note", note.id, Change.UPSERTED, payload=Document(title=f"{note.title} as of {ctx.clock.now().date()}"))


class LogsSecrets(Notes):
    async def page(self, ctx: Context, cursor: int) -> Page:
        ctx.log.info("asking", headers=ctx.http.asked[-1].headers if getattr(ctx.http, "asked", None) else {})  # type: ignore[attr-defined]
        return await super().page(ctx, cursor)


class GoesElsewhere(Notes):
    async def page(self, ctx: Context, cursor: int) -> Page:
        with suppress(ConnectorBug):
            await ctx.http.get("https://statistics.example/beat")
        return await super().page(ctx, cursor)


class Sleeps(Notes):
    async def page(self, ctx: Context, cursor: int) -> Page:
        time.sleep(0.001)  # what is wrong with it: it blocks the loop
        return await super().page(ctx, cursor)


class Computes(Notes):
    async def page(self, ctx: Context, cursor: int) -> Page:
        began = time.thread_time()
        while time.thread_time() - began < 1.1:
            pass
        return await super().page(ctx, cursor)


class CountsDeliveries(Notes):
    numbers = count()

    async def read(self, delivery: Delivery) -> Sequence[News]:
        note = self.pushed(delivery).note
        return [Event("note", f"{note.id}-{next(self.numbers)}", Change.OCCURRED)]


class TrustsBodies(Notes):
    def pushed(self, delivery: Delivery) -> Pushed:
        return decode(delivery.body, Pushed)


class ForgetsTheKey(Notes):
    numbers = count()

    def key(self, action: Action) -> str:
        return f"{action.key}-{next(self.numbers)}"


class OnlyClaimsToRevoke(Notes):
    async def revoke(self, ctx: Context) -> Revocation:
        return Revocation(revoked=Revoked.FULLY)


class HidesThatItFailed(Notes):
    async def revoke(self, ctx: Context) -> Revocation:
        with suppress(ConnectorError):
            await super().revoke(ctx)
        return Revocation(revoked=Revoked.FULLY)


class DoesNotSayWhatRemains(Notes):
    async def revoke(self, ctx: Context) -> Revocation:
        return Revocation(revoked=Revoked.PARTLY)


BROKEN: Sequence[tuple[type[Connector], str, str]] = (
    (NoSentence, "declares_what_people_and_the_daemon_need", "a sentence for each scope"),
    (NoTitle, "declares_what_people_and_the_daemon_need", "name as people know it"),
    (NoPurpose, "stores_only_what_it_declares", "words that a person can read"),
    (NothingDeclared, "stores_only_what_it_declares", "a note to be declared"),
    (TellsMore, "stores_only_what_it_declares", "declared fields only in a note"),
    (ForgetsState, "signs_in_with_state_and_pkce", "state of the flow"),
    (NoChallenge, "signs_in_with_state_and_pkce", "code_challenge of the flow"),
    (ExchangesTwice, "signs_in_with_state_and_pkce", "exactly once"),
    (KeepsTheCode, "signs_in_with_state_and_pkce", "no secret in what `finish_oauth` gives"),
    (NoAccount, "signs_in_with_state_and_pkce", "whose account it is"),
    (CountsSubjects, "the_same_data_twice_tells_nothing_new", "a second sync|a sync from the beginning"),
    (ChangesPayloads, "the_same_data_twice_tells_nothing_new", "a sync from the beginning to change nothing"),
    (NoCheckpointAtTheEnd, "the_same_data_twice_tells_nothing_new", "a checkpoint at the end"),
    (ChecksTooEarly, "survives_being_killed_at_every_event", "nothing lost"),
    (CountsSubjects, "survives_being_killed_at_every_event", "nothing lost|the same ids"),
    (OddCursor, "cursors_survive_json_and_new_releases", "gives back as it was"),
    (MigratesBadly, "cursors_survive_json_and_new_releases", "migrated or given up"),
    (RaisesItsOwn, "faults_of_the_provider_are_named_and_lose_nothing", "RetryLater after"),
    (ForgetsTheWait, "faults_of_the_provider_are_named_and_lose_nothing", "as long as the provider asks"),
    (LosesAPage, "faults_of_the_provider_are_named_and_lose_nothing", "nothing lost"),
    (SwallowsSignInAgain, "a_lost_sign_in_is_never_swallowed", "reported success"),
    (SignsByItself, "tokens_that_run_out_are_renewed_by_the_session", "when its token has run out"),
    (RenewsByItself, "tokens_that_run_out_are_renewed_by_the_session", "no refresh token sent"),
    (StopsAtAnEmptyPage, "an_empty_page_ends_nothing", "nothing lost after an empty page"),
    (NeedsANote, "an_empty_page_ends_nothing", "gets over an empty page"),
    (NamesATopicTwice, "subscribes_and_leaves_nothing_behind", "topics, each once"),
    (GivesAnotherId, "subscribes_and_leaves_nothing_behind", "the address's id and the topic"),
    (EndsWithoutAZone, "subscribes_and_leaves_nothing_behind", "an end in UTC"),
    (OnlySaysThatItSubscribed, "subscribes_and_leaves_nothing_behind", "something that stands"),
    (MixesUpWhatItRenews, "subscribes_and_leaves_nothing_behind", "the same or the new one"),
    (EndsNothing, "subscribes_and_leaves_nothing_behind", "nothing to stand after unsubscribing"),
    (FailsAtWhatHasEnded, "subscribes_and_leaves_nothing_behind", "no error where one is unsubscribed twice"),
    (ForgetsOrphans, "subscribes_and_leaves_nothing_behind", "to subscribing was lost"),
    (LogsAddresses, "subscribes_and_leaves_nothing_behind", "no secret of an address"),
    (MistakesDeadCursors, "a_cursor_that_died_is_said_to_be_dead", "CursorExpired for a dead cursor"),
    (AsksTheClock, "clocks_that_go_wrong_change_no_event", "the same payloads"),
    (LogsSecrets, "secrets_come_to_light_nowhere", "no secret in the log"),
    (GoesElsewhere, "the_same_data_twice_tells_nothing_new", "declared hosts only"),
    (Sleeps, "the_same_data_twice_tells_nothing_new", "holds up the loop"),
    (Computes, "the_same_data_twice_tells_nothing_new", "short steps"),
    (CountsDeliveries, "hears_the_same_in_any_order", "the same each time"),
    (TrustsBodies, "hears_the_same_in_any_order", "Unreadable for the body"),
    (ForgetsTheKey, "acts_once_however_often_it_is_asked", "done once"),
    (AcceptsEveryKey, "accepts_a_key_that_works_and_no_other", "asked whether a key works"),
    (AcceptsWhatIsRefused, "accepts_a_key_that_works_and_no_other", "SignInAgain when the provider answers 401"),
    (ThinksItIsRefused, "accepts_a_key_that_works_and_no_other", "an error that passes when the provider answers 500"),
    (AKeyThatCannotBeSent, "declares_what_people_and_the_daemon_need", "can be entered and sent"),
    (AKeyForEver, "declares_what_people_and_the_daemon_need", "where a person deletes the key"),
    (OnlyClaimsToRevoke, "revokes_honestly", "told before FULLY"),
    (HidesThatItFailed, "revokes_honestly", "an error when the provider answers 500"),
    (DoesNotSayWhatRemains, "revokes_honestly", "a sentence on what remains"),
)


@pytest.mark.parametrize(("broken", "test", "says"), BROKEN, ids=[f"{it[0].__name__}-{it[1][:20]}" for it in BROKEN])
def test_red_where_it_is_broken(broken: type[Connector], test: str, says: str) -> None:
    """A connector that breaks one promise fails the test of that promise, which says what is expected and what helps."""
    contract = type("Contract", (NotesContract,), {"connector": broken})()
    with pytest.raises(Broken, match=says) as failure:
        getattr(contract, f"test_{test}")()
    assert "remedy:" in str(failure.value)


def test_each_test_is_shown_red() -> None:
    """No test of the contract is without a connector that fails it; that of files has its own below."""
    tests = {name for name in dir(ConnectorContract) if name.startswith("test_")}
    assert tests == {f"test_{test}" for _, test, _ in BROKEN} | {"test_reads_files_from_any_checkpoint"}


def test_a_tape_gives_what_was_recorded(tmp_path: Path) -> None:
    """Answers come in their order, the last of them again and again; what was not recorded is said."""
    tape = tmp_path / "tape.jsonl"
    line = '{"method": "GET", "url": "https://a.example/x?b=2&a=1", "answer": "%s"}\n'
    tape.write_text(line % "1" + line % "2")
    played = Tape(tape)

    def asked(url: str) -> bytes:
        return asyncio.run(played.answer(Request(method="GET", url=url, headers={}))).body

    assert [asked("https://a.example/x?a=1&b=2") for _ in range(3)] == [b"1", b"2", b"2"]
    assert b"not on the tape" in asked("https://a.example/y")
