"""The contract of connectors as tests. A sub-class names a connector and a provider; each failure says what is expected and what helps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any, ClassVar, Final
from urllib.parse import parse_qs, urlsplit
from uuid import NAMESPACE_URL, uuid5

import msgspec

from oo_sdk.actions import Action
from oo_sdk.auth import ApiKey, OAuth2
from oo_sdk.connector import Connector
from oo_sdk.context import Context
from oo_sdk.errors import ConnectorBug, ConnectorError, CursorExpired, QuotaSpent, RetryLater, SignInAgain, Unreadable
from oo_sdk.events import Checkpoint, Event
from oo_sdk.revocation import Revoked
from oo_sdk.session import Placeholder
from oo_sdk.stored import undeclared
from oo_sdk.subscriptions import Subscribes, Subscription
from oo_sdk.testing.book import Book, plain
from oo_sdk.testing.given import Entered, Lines, address_of, id_of, secret_of
from oo_sdk.testing.harness import Broken, Harness
from oo_sdk.testing.provider import Provider, json_answer
from oo_sdk.testing.session import CANARIES, CODE
from oo_sdk.testing.trouble import Emptied, Expiring, Lossy, Paged, Revoking, Spoilt, answered, faults
from oo_sdk.uploads import Occurrences, Takes, Told, Upload
from oo_sdk.webhooks import Delivery, Hears

#: At most this many places are tried to kill a sync at, and to answer wrongly at; they are spread evenly.
KILLS: Final = 60
FAULTS: Final = 8
#: Numbers of the addresses of subscriptions that are renewed, and of those of which the answer is lost.
RENEWED: Final = 1000
ORPHANED: Final = 2000


class ConnectorContract(Harness):
    """What every connector keeps. `class TestMine(ConnectorContract): connector = Mine; tape = "tapes/mine.jsonl"`.

    In place of a tape, write `provider`: it is called for each life of a provider and gives one that knows the same each time.
    """

    deliveries: ClassVar[Sequence[Delivery]] = ()  #: what the provider pushes, for a connector that hears
    uploads: ClassVar[Sequence[Upload]] = ()  #: files, for a connector that takes them
    acts: ClassVar[Mapping[str, Mapping[str, Any]]] = {}  #: arguments of each action that it can do

    # --- what an author may write -------------------------------------------------------------------------------------

    def things(self, provider: Provider) -> object:
        """What exists at the provider, to be compared before and after an action. To be written where there are `acts`."""
        raise Broken(
            "to see what an action did", "`things` is not written", "give what exists at the provider, such as a dict of its notes"
        )

    # --- what it declares ---------------------------------------------------------------------------------------------

    def test_declares_what_people_and_the_daemon_need(self) -> None:
        """An id, hosts, scopes with sentences, and a way to revoke."""
        made = self._made()
        if not (made.id.isidentifier() and made.id.islower() and made.id.isascii()):
            raise Broken(
                "an id of lower-case letters, digits and _", repr(made.id), "change `id`; it stays for ever, as types begin with it"
            )
        if not made.title:
            raise Broken("the provider's name as people know it", "`title` is empty", "write it into `title`")
        if made.auth is None:
            return
        if not made.hosts or any("/" in host for host in made.hosts):
            raise Broken("the hosts that the credential may go to", repr(list(made.hosts)), 'list them in `hosts` as "name" or "name:port"')
        for scope in made.scopes:
            if len(scope.sentence.split()) < 3 or not scope.sentence.endswith("."):
                raise Broken(
                    "a sentence for each scope", f"{scope.id} has {scope.sentence!r}", 'continue "oO can", and end with a full stop'
                )
        own = type(made).revoke is not Connector.revoke
        if isinstance(made.auth, ApiKey):
            for sentence in made.auth.problems():
                raise Broken("a key that can be entered and sent", sentence, "correct `auth`")
            if not (own or made.manual_revocation):
                raise Broken("where a person deletes the key", "nothing says so", "write the address into `manual_revocation`")
        elif made.auth.revoke is None and not own:
            raise Broken("a way to give the grant back", "there is none", "give `auth.revoke` the provider's address, or write `revoke`")

    def test_stores_only_what_it_declares(self) -> None:
        """Each event is declared, with what is kept of it and what for, and has no field that is not."""
        made = self._made()
        for stored in made.stores:
            if len(stored.what.split()) < 2 or len(stored.purpose.split()) < 2:
                remedy = 'let `what` continue "oO keeps", and `purpose` "to": the person reads them as one sentence'
                raise Broken("words that a person can read", f"{stored.name} has {stored.what!r} and {stored.purpose!r}", remedy)
        for name, payload in self._payloads(made):
            try:
                dropped = set(undeclared(made, name, payload))
            except ConnectorBug:
                remedy = f'add `Stored("{name}", …)` to `stores`: what is kept of it, what for, and the fields'
                raise Broken(f"a {name} to be declared in `stores`", "it is not, and would be refused", remedy) from None
            if lost := sorted(dropped & {field.name for field, _ in payload.ListFields()}):
                remedy = "name it among the fields if it is needed, else leave it out: it is dropped before anything is kept"
                raise Broken(f"declared fields only in a {name}", f"it has {', '.join(lost)} too", remedy)

    def _payloads(self, made: Connector) -> Iterator[tuple[str, Any]]:
        """Everything that it tells in these tests."""
        told: list[tuple[str, Any]] = []

        class Noted(Book):
            def take(self, signal: Any) -> None:
                if isinstance(signal, Event):
                    told.append((signal.name, signal.payload))
                super().take(signal)

        if not self._only_hears_or_takes():
            self._whole(Noted(), self.provider())
        if isinstance(made, Hears):
            for delivery in self.deliveries:
                told += [(each.name, each.payload) for each in self._run(made.read(delivery)) if isinstance(each, Event)]
        yield from ((name, payload) for name, payload in told if payload is not None)
        if not isinstance(made, Takes):
            return
        for upload in self.uploads:
            for each in made.parse(upload, None):
                match each:
                    case Event() if each.payload is not None:
                        yield each.name, each.payload
                    case Occurrences():
                        yield from ((each.name, each.payload(row)) for _, _, row in each.rows)

    # --- signing in ---------------------------------------------------------------------------------------------------

    def test_signs_in_with_state_and_pkce(self) -> None:
        """The address has our state, our challenge and every scope; the code is exchanged once and kept nowhere."""
        made = self._made()
        if not isinstance(made.auth, OAuth2):
            return
        flow = self._flow(made, made.auth)
        address = self._run(made.begin_oauth(flow)).url
        query = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
        wanted = {"state": flow.state, "redirect_uri": flow.redirect_uri, "client_id": flow.client_id, "response_type": "code"}
        if flow.challenge is not None:
            wanted |= {"code_challenge": flow.challenge, "code_challenge_method": "S256"}
        for name, value in wanted.items():
            if query.get(name) != value:
                remedy = f"pass on what `flow` gives as {name}, or leave `begin_oauth` to the SDK"
                raise Broken(f"{name} of the flow in the address", "it is missing or another", remedy)
        asked = set(query.get("scope", "").split(made.auth.scope_separator))
        if not set(flow.scopes) <= asked:
            raise Broken(
                "every scope of the flow in the address", f"{sorted(set(flow.scopes) - asked)} are missing", "pass on `flow.scopes`"
            )
        stored = self._run(made.finish_oauth(flow, CODE))
        if flow.codes != [CODE]:
            raise Broken(
                "the code exchanged exactly once", f"{len(flow.codes)} times", "call `flow.exchange(code)` once: a code works once"
            )
        self._no_canary("what `finish_oauth` gives", f"{stored.meta} {stored.label} {stored.account_id}")
        if plain(stored.meta) != dict(stored.meta):
            raise Broken("a meta that JSON can keep", "it comes back as something else", "put only text, numbers, lists and dicts into it")
        if isinstance(made, Hears) and not stored.account_id:
            raise Broken("whose account it is", "`account_id` is empty", "give `.of(account_id)`: webhooks are routed by it")

    # --- syncing ------------------------------------------------------------------------------------------------------

    def test_the_same_data_twice_tells_nothing_new(self) -> None:
        """A second sync, and a whole one over again, change nothing; the last signal is a checkpoint."""
        if self._only_hears_or_takes():
            return
        provider, book = self.provider(), Book()
        self._whole(book, provider)
        if not book.now.objects:
            raise Broken("something to be told", "no event came", "let the provider of this test have something in it")
        if book.kept.cursor is None or book.now.objects != book.kept.objects:
            raise Broken("a checkpoint at the end", "what came last has none", "yield a `Checkpoint` when all is told")
        first, once = dict(book.now.objects), book.changes == len(book.now.objects)
        for what, cursor in (("a second sync", book.kept.cursor), ("a sync from the beginning", None)):
            before, book.now.cursor = book.changes, cursor
            self._whole(book, provider)
            # A feed that tells how things changed tells that again from its beginning; it still comes to the same.
            if book.now.objects != first or (book.changes != before and (once or cursor is not None)):
                remedy = "let subject and payload depend on nothing but what the provider says: no counters, no clock"
                raise Broken(f"{what} to change nothing", f"{book.changes - before} events were new", remedy)

    def test_survives_being_killed_at_every_event(self) -> None:
        """Wherever a sync dies, the next one from the newest checkpoint comes to the same, with the same ids."""
        if self._only_hears_or_takes():
            return
        whole, count = Book(), self._count()
        self._whole(whole, self.provider())
        for at in _spread(count, KILLS):
            for lose in (True, False):
                provider, book = self.provider(), Book()
                self._run(self._sync(book, provider, stop=at))
                book.crash(lose=lose)
                self._whole(book, provider)
                self._same(book, whole, f"a sync that died after signal {at + 1}")

    def test_cursors_survive_json_and_new_releases(self) -> None:
        """A cursor is the same after JSON, and one of an older shape is turned into one of today's or given up."""
        if self._only_hears_or_takes():
            return
        for cursor in self._cursors():
            try:
                same = plain(cursor) == dict(cursor)
            except TypeError:
                same = False
            if not same:
                raise Broken(
                    "a cursor that JSON gives back as it was", "it cannot", "keep text, numbers, lists and dicts with text as names"
                )
            try:
                moved = self._made().migrate_cursor(plain(cursor), self._made().cursor_shape - 1)
            except Exception as error:
                happened = f"{type(error).__name__} from `migrate_cursor`"
                raise Broken("an old cursor migrated or given up", happened, "give None where it cannot be read") from error
            if moved is not None and not isinstance(moved, Mapping):
                raise Broken("an old cursor migrated or given up", f"a {type(moved).__name__}", "give a cursor, or None") from None
            self._no_canary("a cursor", msgspec.json.encode(cursor).decode())

    def test_faults_of_the_provider_are_named_and_lose_nothing(self) -> None:
        """Each fault at each request ends in the error that it means or is got over; the next sync comes to the same."""
        if self._only_hears_or_takes():
            return
        whole, requests = Book(), self._requests()
        self._whole(whole, self.provider())
        for fault in faults(self.now):
            for at in _spread(requests, FAULTS):
                provider, book = self.provider(), Book()
                raised = self._run(self._sync(book, Spoilt(provider=provider, at=at, make=fault.make)))
                where = f"{fault.name} at request {at + 1}"
                if raised is not None and not isinstance(raised, RetryLater | QuotaSpent):
                    remedy = (
                        "let the session's errors pass, and decode by `into=`; say in `errors` or `explain` what only this provider means"
                    )
                    raise Broken(f"RetryLater after {where}", f"{type(raised).__name__}: {raised}", remedy)
                if fault.wait is not None and isinstance(raised, RetryLater) and raised.after != fault.wait:
                    remedy = "let the session's `RetryLater` pass, or hand its `after` on"
                    raise Broken(f"to wait as long as the provider asks, after {where}", f"after={raised.after}", remedy)
                book.crash(lose=True)
                self._whole(book, provider)
                self._same(book, whole, where)

    def test_a_lost_sign_in_is_never_swallowed(self) -> None:
        """A 401 at any request ends the sync with `SignInAgain`."""
        if self._only_hears_or_takes():
            return
        for at in _spread(self._requests(), FAULTS):
            refused = Spoilt(provider=self.provider(), at=at, make=lambda _: json_answer({"error": "no"}, status=401), times=10**6)
            raised = self._run(self._sync(Book(), refused))
            if not isinstance(raised, SignInAgain):
                happened = "the sync reported success" if raised is None else f"{type(raised).__name__}: {raised}"
                remedy = "catch narrower: no `except Exception` and no `gather(return_exceptions=True)` around requests"
                raise Broken(f"SignInAgain when request {at + 1} is refused", happened, remedy)

    def test_tokens_that_run_out_are_renewed_by_the_session(self) -> None:
        """Wherever a token runs out and both are replaced, the sync comes to the same; no connector renews by itself."""
        made = self._made()
        if not isinstance(made.auth, OAuth2) or self._only_hears_or_takes():
            return
        whole = Book()
        self._whole(whole, self.provider())
        for at in _spread(self._requests(), FAULTS):
            book, session = Book(), self._session(self._made(), Expiring(provider=self.provider(), at=at))
            raised = self._run(self._sync(book, session.provider, session=session))
            if raised is not None:
                remedy = "leave signing to the session (`Sign.USER`): it renews what it adds, and nothing that you put into a request"
                raise Broken(f"a sync that goes on when its token has run out at request {at + 1}", type(raised).__name__, remedy)
            self._same(book, whole, f"a token that ran out at request {at + 1}")
            renewed = CANARIES[Placeholder.REFRESH_TOKEN]
            if any(renewed in f"{each.headers} {each.url} {each.body!r}" for each in session.asked):
                remedy = "leave renewing to the session: a refresh token that is used twice can end the grant"
                raise Broken("no refresh token sent while syncing", "one was", remedy)

    def test_an_empty_page_ends_nothing(self) -> None:
        """A page may hold nothing while more remain: what comes behind it is told, too."""
        if self._only_hears_or_takes():
            return
        whole, watched = Book(), Paged(provider=self.provider())
        self._whole(whole, watched)
        for at, token in watched.pages():
            book = Book()
            raised = self._run(self._sync(book, Emptied(provider=self.provider(), at=at, token=token)))
            if raised is not None:
                remedy = "go on as long as the provider names a next page"
                raise Broken(f"a sync that gets over an empty page {at + 1}", f"{type(raised).__name__}: {raised}", remedy)
            self._same(book, whole, f"an empty page {at + 1}: only a missing name of the next one ends a listing")

    def test_a_cursor_that_died_is_said_to_be_dead(self) -> None:
        """Where a status means that the provider forgot our cursor, the sync says so or begins again by itself."""
        made = self._made()
        dead = [status for status, error in made.errors.items() if issubclass(error, CursorExpired)]
        if self._only_hears_or_takes() or not dead:
            return
        provider, book = self.provider(), Book()
        self._whole(book, provider)
        gone = Spoilt(provider=provider, at=0, make=lambda _: json_answer({"error": "gone"}, status=dead[0]))
        raised = self._run(self._sync(book, gone))
        if raised is not None and not isinstance(raised, CursorExpired):
            raise Broken("CursorExpired for a dead cursor", f"{type(raised).__name__}: {raised}", "let the session's error pass")

    def test_clocks_that_go_wrong_change_no_event(self) -> None:
        """A day fast or slow, the sync tells the same."""
        if self._only_hears_or_takes():
            return
        whole = Book()
        self._whole(whole, self.provider())
        for skew in (timedelta(days=1), timedelta(days=-1)):
            book = Book()
            raised = self._run(self._sync(book, self.provider(), now=self.now + skew))
            if raised is not None:
                raise Broken(
                    "a sync under a wrong clock", f"{type(raised).__name__}: {raised}", "compare the provider's times with each other"
                )
            self._same(book, whole, f"a clock that is off by {skew}")

    def test_secrets_come_to_light_nowhere(self) -> None:
        """Neither events, cursors, logs nor errors hold a token."""
        if self._only_hears_or_takes():
            return
        book, lines = Book(), Lines()
        raised = self._run(self._sync(book, self.provider(), log=lines))
        self._no_canary("the log", " ".join(lines.lines))
        self._no_canary("a cursor", str(book.now.cursor))
        self._no_canary("an error", str(raised))
        for key, body in book.now.objects.items():
            self._no_canary("an event", " ".join(key))
            self._no_canary("an event", (body or b"").decode(errors="replace"))

    # --- pushes -------------------------------------------------------------------------------------------------------

    def test_hears_the_same_in_any_order(self) -> None:
        """Deliveries that come twice, or in another order, say the same; what makes no sense is set aside."""
        made = self._made()
        if not isinstance(made, Hears):
            return
        if not self.deliveries:
            raise Broken("deliveries to read", "there are none", "set `deliveries` to what the provider pushes")
        first = [self._heard(made, each) for each in self.deliveries]
        again = [self._heard(made, each) for each in reversed(self.deliveries)][::-1]
        if first != again:
            raise Broken("a delivery to say the same each time", "it said something else", "read nothing but the delivery: keep no state")
        for nonsense in (b"", b"{", b"[]", b"{}", b"\xff\xfe", b"null"):
            delivery = replace(self.deliveries[0], body=nonsense)
            try:
                self._heard(made, delivery)
            except Unreadable:
                continue
            except Exception as error:
                remedy = "raise `Unreadable`: the daemon then sets the delivery aside and shows it to the operator"
                raise Broken(f"Unreadable for the body {nonsense!r}", f"{type(error).__name__}: {error}", remedy) from None

    def standing(self, provider: Provider) -> object:
        """What a provider pushes now, to be compared before and after. To be written where the connector subscribes."""
        raise Broken("to see what stands at the provider", "`standing` is not written", "give what is subscribed to, such as a set of ids")

    def test_subscribes_and_leaves_nothing_behind(self) -> None:
        """What is subscribed to stands until it is unsubscribed, once or twice, also where the answer to subscribing was lost."""
        made = self._made()
        if not isinstance(made, Subscribes):
            return
        provider, log = self.provider(), Lines()
        ctx = self._context(self._session(made, provider), log=log)
        before, topics = self.standing(provider), self._run(made.topics(ctx))
        if not topics or isinstance(topics, str) or len(set(topics)) != len(topics):
            raise Broken("topics, each once", repr(topics), "give what there is to subscribe to, such as the ids of calendars")
        made_ = [self._subscribed(made, ctx, topic, number) for number, topic in enumerate(topics)]
        stand = [each for each in made_ if each is not None]
        if not stand or self.standing(provider) == before:
            raise Broken("something that stands after subscribing", "there is nothing", "ask the provider, and give what it answered")
        renewed = [self._renewed(made, ctx, each, RENEWED + number) for number, each in enumerate(stand)]
        for each in [*stand, *filter(None, renewed), *stand]:
            self._unsubscribed(made, ctx, each, "unsubscribed twice")
        if self.standing(provider) != before:
            raise Broken("nothing to stand after unsubscribing", "something does", "tell the provider, and let its errors pass")
        self._orphans(made, topics[0])
        for number in range(len(topics)):
            if secret_of(number) in " ".join(log.lines):
                raise Broken("no secret of an address in the log", "there is one", "log neither addresses nor what is sent")

    # --- files --------------------------------------------------------------------------------------------------------

    def test_reads_files_from_any_checkpoint(self) -> None:
        """Wherever reading dies, it goes on from the newest checkpoint and comes to the same."""
        made = self._made()
        if not isinstance(made, Takes):
            return
        if not self.uploads:
            raise Broken("files to read", "there are none", "set `uploads` to files of the kinds in `takes`")
        for upload in self.uploads:
            told = list(made.parse(upload, None))
            whole = sorted(_keys(told))
            if not whole or not any(isinstance(each, Checkpoint) for each in told):
                raise Broken("events and a checkpoint", f"{len(whole)} events", "yield a `Checkpoint` every few seconds, and at the end")
            for at in _spread(len(told), KILLS):
                before = told[: at + 1]
                marks = [number for number, each in enumerate(before) if isinstance(each, Checkpoint)]
                mark = before[marks[-1]] if marks else None
                cursor = plain(mark.cursor) if isinstance(mark, Checkpoint) else None
                kept = before[: marks[-1]] if marks else []
                if sorted({*_keys(kept), *_keys(list(made.parse(upload, cursor)))}) != sorted(set(whole)):
                    remedy = "put everything into the cursor that reading goes on by, and begin there"
                    raise Broken("the same after dying", f"other events after item {at + 1}", remedy)

    # --- changing something -------------------------------------------------------------------------------------------

    def test_acts_once_however_often_it_is_asked(self) -> None:
        """An action whose answer was lost is done again with the same key, and changes nothing twice."""
        made = self._made()
        for kind in made.actions:
            if kind.name not in self.acts:
                raise Broken(f"arguments to try {kind.name} with", "there are none", "add them to `acts`")
        for kind in made.actions:
            arguments = msgspec.convert(dict(self.acts[kind.name]), kind.arguments)
            action = Action(name=kind.name, arguments=arguments, key=str(uuid5(NAMESPACE_URL, kind.name)))
            once = self.provider()
            session = self._session(made, once)
            result = self._run(made.act(self._context(session), action))
            wanted = self.things(once)
            for at in range(len(session.asked)):
                provider = self.provider()
                lossy = self._session(made, Lossy(provider=provider, at=at))
                with suppress(RetryLater):
                    self._run(made.act(self._context(lossy), action))
                again = self._run(made.act(self._context(self._session(made, provider)), action))
                if self.things(provider) != wanted:
                    remedy = "send `action.key` as the provider's idempotency key, or look whether it is done before doing it"
                    raise Broken(f"{kind.name} to be done once", f"it was done twice when answer {at + 1} was lost", remedy)
                if again.subject != result.subject:
                    raise Broken(f"the same subject from {kind.name}", "another one", "give the provider's id of what was changed")

    # --- keys ---------------------------------------------------------------------------------------------------------

    def test_accepts_a_key_that_works_and_no_other(self) -> None:
        """The provider is asked with the key; where it refuses or does not answer, the key is not accepted."""
        made = self._made()
        if not isinstance(made.auth, ApiKey):
            return
        session = self._session(made, self.provider())
        stored = self._run(made.accept_key(Entered(auth=made.auth, http=session, scopes=self._scopes(made))))
        if not session.asked:
            raise Broken("the provider to be asked whether a key works", "nothing was sent to it", "give `auth.check` an address of its")
        if session.strange:
            raise Broken(
                "requests to declared hosts only", f"one went to {session.strange[0]}", "add it to `hosts`, if the key may go there"
            )
        self._no_canary("what `accept_key` gives", f"{stored.meta} {stored.label} {stored.account_id}")
        either = "SignInAgain or an error that passes"  # what 403 means is the provider's own
        for status, wanted in ((401, "SignInAgain"), (403, either), (500, "an error that passes")):
            refusing = Spoilt(provider=self.provider(), at=0, make=partial(answered, status), times=10**6)
            try:
                self._run(made.accept_key(Entered(auth=made.auth, http=self._session(made, refusing), scopes=self._scopes(made))))
            except SignInAgain:
                ended = "SignInAgain"
            except ConnectorError:
                ended = "an error that passes"
            else:
                ended = "the key accepted"
            if ended not in wanted:
                remedy = "let the session's error pass, and raise `SignInAgain` for what this provider means by a refusal"
                raise Broken(f"{wanted} when the provider answers {status} to a key", ended, remedy)

    # --- giving back --------------------------------------------------------------------------------------------------

    def test_revokes_honestly(self) -> None:
        """FULLY is said only where the provider was told and agreed; what remains has a sentence or an address."""
        made = self._made()
        if made.auth is None:
            return
        session = self._session(made, Revoking(provider=self.provider()))
        revocation = self._run(made.revoke(self._context(session)))
        told = [each for each in session.asked if any(secret in f"{each.headers} {each.body!r}" for secret in CANARIES.values())]
        if revocation.revoked is Revoked.FULLY and not told:
            remedy = "send the token to the provider (`Placeholder.REFRESH_TOKEN`), or say `Revoked.UNSUPPORTED`"
            raise Broken("the provider to be told before FULLY is said", "nothing was sent to it", remedy)
        if revocation.revoked is not Revoked.FULLY and not (revocation.remains and (revocation.manual_url or made.manual_revocation)):
            raise Broken("a sentence on what remains, and where to remove it", "one is missing", "fill in `remains` and `manual_url`")
        if not told:
            return
        down = Spoilt(provider=self.provider(), at=0, make=lambda _: json_answer({"error": "oops"}, status=500), times=10**6)
        try:
            claimed = self._run(made.revoke(self._context(self._session(made, down)))).revoked
        except ConnectorError:
            return
        if claimed is Revoked.FULLY:
            raise Broken("an error when the provider answers 500 to revoking", "FULLY was said", "let the session's error pass")

    # --- how ----------------------------------------------------------------------------------------------------------

    def _heard(self, made: Hears, delivery: Delivery) -> list[object]:
        async def both() -> list[object]:
            accounts = await made.route(delivery) if getattr(made, "auth", None) is not None else ()
            return [*accounts, *await made.read(delivery)]

        return self._run(both())

    def _subscribed(self, made: Subscribes, ctx: Context, topic: str, number: int) -> Subscription | None:
        address = address_of(number)
        found = self._run(made.subscribe(ctx, topic, address))
        if found is None:
            return None
        if (found.id, found.topic) != (address.id, topic):
            raise Broken("the address's id and the topic in what `subscribe` gives", "others", "give `address.id` and `topic`")
        ends = found.expires_at
        if ends is not None and (ends.tzinfo is None or ends <= ctx.clock.now()):
            raise Broken("an end in UTC that is still to come", "a time without a zone, or one that is over", "read it with its zone")
        return found

    def _renewed(self, made: Subscribes, ctx: Context, standing: Subscription, number: int) -> Subscription | None:
        found = self._run(made.renew(ctx, standing, address_of(number)))
        if found is not None and (found.id not in {standing.id, id_of(number)} or found.topic != standing.topic):
            remedy = "give the same one, or another under the id of the new address"
            raise Broken("what `renew` gives to be the same or the new one", "neither", remedy)
        return found

    def _unsubscribed(self, made: Subscribes, ctx: Context, standing: Subscription, how: str) -> None:
        try:
            self._run(made.unsubscribe(ctx, standing, address_of(0, id_=standing.id)))
        except ConnectorError as error:
            remedy = "take what the provider says of one that it does not know for an end: `accept=(404,)`"
            raise Broken(f"no error where one is {how}", f"{type(error).__name__}: {error}", remedy) from error

    def _orphans(self, made: Subscribes, topic: str) -> None:
        """Lose the answer to each request of subscribing, and end what may be left."""
        counting, number = self._session(self._made(), self.provider()), ORPHANED
        self._run(made.subscribe(self._context(counting), topic, address_of(number)))
        for at in range(len(counting.asked)):
            provider = self.provider()
            before = self.standing(provider)
            with suppress(RetryLater):
                lossy = Lossy(provider=provider, at=at)
                self._run(made.subscribe(self._context(self._session(self._made(), lossy)), topic, address_of(number)))
            ctx = self._context(self._session(self._made(), provider))
            self._unsubscribed(made, ctx, Subscription(id=id_of(number), topic=topic), "perhaps never made")
            if self.standing(provider) != before:
                remedy = "where `handle` is empty, find it at the provider by its id or by `address.url`"
                raise Broken(f"nothing to stand when answer {at + 1} to subscribing was lost", "something does", remedy)


def _spread(count: int, most: int) -> Iterator[int]:
    """At most so many numbers below `count`, evenly."""
    if count <= most:
        return iter(range(count))
    return iter(sorted({number * count // most for number in range(most)}))


def _keys(told: Sequence[Told]) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for each in told:
        if isinstance(each, Event):
            found.append((each.name, each.key or each.subject))
        elif isinstance(each, Occurrences):
            found += [(each.name, row[0]) for row in each.rows]
    return found
