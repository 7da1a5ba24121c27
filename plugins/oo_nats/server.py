"""A connection to NATS and the stream that events go to: the one door to `nats-py`.

It never connects again by itself. Whatever breaks it is raised, so that the sink is opened anew and asked first whether it still has what
it took: a server that comes back may have lost the end of its stream.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar
from urllib.parse import urlsplit
from urllib.request import urlopen

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import PubAck, StorageType, StreamConfig, StreamInfo
from nats.js.errors import APIError, NotFoundError

from oo_nats.messages import Message
from oo_nats.sink import secret
from oo_sdk import RetryLater, Taken, Unreadable

if TYPE_CHECKING:
    from oo_nats.sink import Nats

T = TypeVar("T")
Answer: TypeAlias = PubAck | BaseException

#: Seconds for a connection, for a question, for the acknowledgements of a batch, and between two signs of life.
CONNECT, ASK, ACKNOWLEDGE, PING = 5, 5.0, 20.0, 10
#: For so long (seconds) a stream that we make knows an id again: longer than it is given again what it lost.
KNOWN_AGAIN: Final = 20 * 60.0
#: The oldest server that keeps what it acknowledged where it syncs each message, and how many replicas do without.
SOUND, ENOUGH = (2, 10, 23), 3
#: What a server says of a message that is not the next one, and of one that is larger than the stream takes.
NOT_THE_NEXT, TOO_LARGE = 10071, 10054
LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(slots=True, kw_only=True)
class Server:
    """A connection, and the stream."""

    settings: Nats.Settings
    client: Client
    stream: JetStreamContext
    closed: asyncio.Event
    info: StreamInfo  #: as it was found
    last: int  #: the sequence of the last message, as far as is known here
    alone: bool  #: nobody else publishes into the stream, so that a message can say which one it follows
    once_more: bool = True  #: some of what comes next may be there already

    async def publish(self, messages: Sequence[Message]) -> Taken:
        """Publish in order, and wait until it is acknowledged.

        What fails first decides: what lies before it is taken. What lies behind it is not in the stream, or it is there and of another
        user; published again, its id is known.
        """
        fitting = [each for each in messages if each.size <= self.client.max_payload]
        if len(fitting) < len(messages):
            first = next(number for number, each in enumerate(messages) if each.size > self.client.max_payload)
            if not first:
                raise Unreadable(f"the event is larger than the {self.client.max_payload} bytes that the server takes")
            messages = messages[:first]
        chained = self.alone and not self.once_more
        answers = await (self._chained(messages) if chained else self._one_by_one(messages))
        taken: list[PubAck] = []
        for answer in answers:
            if isinstance(answer, BaseException):
                break
            taken.append(answer)
        self.once_more = len(taken) < len(answers) or any(answer.duplicate for answer in taken)
        if not taken:
            failure = answers[0]
            assert isinstance(failure, BaseException)
            if chained and isinstance(failure, APIError) and failure.err_code == NOT_THE_NEXT:
                raise RetryLater("the stream does not end where it did: it is looked at again")
            raise _in_our_words(failure)
        if any(answer.seq <= self.last and not answer.duplicate for answer in taken):
            raise RetryLater("the stream has lost what it had acknowledged: it is given that again")
        newest = max(range(len(taken)), key=lambda number: taken[number].seq)
        self.last = max(self.last, *(answer.seq for answer in answers if isinstance(answer, PubAck)))
        return Taken(events=len(taken), found_at=f"{self._made_at(self.info)} {taken[newest].seq} {messages[newest].id}")

    async def _chained(self, messages: Sequence[Message]) -> list[Answer]:
        """All at once: each names the one before it, so that behind one that fails none is taken."""
        numbered = enumerate(messages, self.last)
        return await self._answers(self._sent(each, {"Nats-Expected-Last-Sequence": str(last)}) for last, each in numbered)

    async def _one_by_one(self, messages: Sequence[Message]) -> list[Answer]:
        """One after the other; where others publish, too, those of different users at once, so that it is not too slow for ever."""
        queues: dict[str, list[tuple[int, Message]]] = defaultdict(list)
        for number, each in enumerate(messages):
            queues["" if self.alone else each.user].append((number, each))
        found: dict[int, Answer] = {}

        async def publish(queue: list[tuple[int, Message]]) -> None:
            for number, each in queue:
                (found[number],) = await self._answers([self._sent(each, {})])
                if isinstance(found[number], BaseException):
                    return

        await asyncio.gather(*map(publish, queues.values()))
        never = RetryLater("an event before it was not taken")
        return [found.get(number, never) for number in range(len(messages))]

    def _sent(self, message: Message, guard: dict[str, str]) -> Coroutine[Any, Any, PubAck]:
        # Not `publish_async`: what the server refuses, that never answers (nats-py 2.16).
        headers = {**message.headers, "Nats-Msg-Id": message.id, **guard}
        return self.stream.publish(message.subject, message.body, ACKNOWLEDGE, self.settings.stream, headers)

    async def _answers(self, publishing: Iterable[Coroutine[Any, Any, PubAck]]) -> list[Answer]:
        """What the server says of each; what it does not answer before it is gone is a failure."""
        sent = [asyncio.ensure_future(each) for each in publishing]
        over: asyncio.Future[Any] = asyncio.ensure_future(self.closed.wait())
        everything: asyncio.Future[Any] = asyncio.gather(*sent, return_exceptions=True)
        try:
            await asyncio.wait({over, everything}, return_when=asyncio.FIRST_COMPLETED)
            return [(each.exception() or each.result()) if each.done() else RetryLater("the server went away") for each in sent]
        finally:
            over.cancel()
            everything.cancel()
            await asyncio.gather(over, everything, return_exceptions=True)

    async def has(self, found_at: str) -> bool:
        """Whether a message is where it was put, or at least its place was not given away."""
        made_at, sequence, id_ = found_at.split(" ")
        info = await _asked(lambda: self.stream.stream_info(self.settings.stream))
        if self._made_at(info) != made_at or info.state.last_seq < int(sequence):
            return False
        try:
            message = await _asked(lambda: self.stream.get_msg(self.settings.stream, int(sequence)))
        except NotFoundError:  # the stream keeps no more than its limits say
            return True
        return (message.headers or {}).get("Nats-Msg-Id") == id_

    @staticmethod
    def _made_at(info: StreamInfo) -> str:
        """What tells the stream from another that took its place."""
        return info.created.isoformat() if info.created else ""

    async def warnings(self) -> Sequence[str]:
        """What could lose events, or show them."""
        config, version = self.info.config, self.client.connected_server_version
        says = []
        if (version.major, version.minor, version.patch) < SOUND:
            says.append(f"the server is {version.major}.{version.minor}.{version.patch}: only from 2.10.23 on it keeps all it acknowledges")
        if config.storage != StorageType.FILE:
            says.append(f"the stream {self.settings.stream} is kept in memory only: make it of storage file")
        if (config.num_replicas or 1) < ENOUGH and (unsynced := await self._unsynced()):
            says.append(unsynced)
        if not _encrypted(self.client) and not all(urlsplit(each).hostname in LOOPBACK for each in self.settings.servers):
            says.append("events go to the server unencrypted: write its address as tls://")
        return says

    async def _unsynced(self) -> str:
        """Of a stream without enough replicas: why a power cut may lose what was acknowledged; empty where it does not."""
        remedy = "set sync_interval: always in its jetstream block, or give the stream 3 replicas"
        if not self.settings.monitoring:
            return f"it cannot be known whether the server syncs each message: set monitoring; if it does not, {remedy}"
        try:
            told = await asyncio.to_thread(_jetstream, self.settings.monitoring)
        except (OSError, ValueError) as wrong:
            return f"the server's monitoring cannot be asked whether it syncs each message ({type(wrong).__name__})"
        always = isinstance(told, dict) and isinstance(told.get("config"), dict) and told["config"].get("sync_always") is True
        return "" if always else f"the server does not sync each message, so that a power cut loses some: {remedy}"

    async def close(self) -> None:
        """Disconnect."""
        await self.client.close()


async def connect(settings: Nats.Settings) -> Server:
    """Connect to one of the servers, and find the stream. Raises `RetryLater`, which says what to do."""
    client, closed = await _connected(settings)
    try:
        stream = client.jetstream(timeout=ASK)
        info = await _stream(stream, settings)
    except BaseException:
        await client.close()
        raise
    subjects = info.config.subjects or []
    alone = all(each.startswith(f"{settings.prefix}.") for each in subjects) and not info.config.sources
    return Server(settings=settings, client=client, stream=stream, closed=closed, info=info, last=info.state.last_seq, alone=alone)


async def _connected(settings: Nats.Settings) -> tuple[Client, asyncio.Event]:
    # The library gives up a server that refuses only once it has refused more often than there are attempts.
    options: dict[str, Any] = {"name": "oo", "allow_reconnect": False, "max_reconnect_attempts": 1, "reconnect_time_wait": 0}
    options |= {"connect_timeout": CONNECT, "ping_interval": PING}
    if settings.login:
        options |= {"user": settings.login, "password": await secret(settings.password_file, "password_file")}
    if settings.token_file:
        options["token"] = await secret(settings.token_file, "token_file")
    if settings.credentials_file:
        await secret(settings.credentials_file, "credentials_file")
        options["user_credentials"] = settings.credentials_file
    encrypted = any(urlsplit(each).scheme == "tls" for each in settings.servers) or settings.ca_file
    options |= {"tls": _tls(settings)} if encrypted else {}
    failure: Exception = RetryLater("there is no server")
    for address in random.sample(settings.servers, len(settings.servers)):
        client, closed = Client(), asyncio.Event()
        wanted = urlsplit(address).scheme == "tls"

        async def over(closed: asyncio.Event = closed) -> None:
            closed.set()

        def guarded(text: str, client: Client = client, wanted: bool = wanted) -> Callable[[], str]:
            def give() -> str:
                if wanted and not _encrypted(client):
                    raise RetryLater("the server does not encrypt, and its address is tls://: nothing was sent to it")
                return text

            return give

        given: Any = {name: guarded(value) if name in {"user", "password", "token"} else value for name, value in options.items()}
        try:
            async with asyncio.timeout(3 * CONNECT):
                await client.connect(servers=[address], error_cb=_silent, closed_cb=over, **given)
            if wanted and not _encrypted(client):
                raise RetryLater("the server does not encrypt, and its address is tls://: nothing was sent to it")
        except (RetryLater, nats.errors.Error, OSError, TimeoutError, ValueError, ImportError) as error:
            failure = error
            with suppress(AssertionError):  # it had not begun
                await client.close()
        else:
            return client, closed
    if isinstance(failure, RetryLater):
        raise failure
    raise RetryLater(f"no server can be reached ({type(failure).__name__})") from None


def _encrypted(client: Client) -> bool:
    """Whether what is sent is encrypted. The library has no word for it."""
    return bool(client._server_info.get("tls_required"))


def _tls(settings: Nats.Settings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.ca_file or None)
        if settings.certificate_file:
            context.load_cert_chain(settings.certificate_file, settings.certificate_key_file)
    except OSError as wrong:
        raise RetryLater(f"ca_file, certificate_file or certificate_key_file cannot be used ({type(wrong).__name__})") from None
    return context


async def _stream(stream: JetStreamContext, settings: Nats.Settings) -> StreamInfo:
    wanted = f"{settings.prefix}.>"
    try:
        info = await _asked(lambda: stream.stream_info(settings.stream))
    except NotFoundError:
        if not settings.create:
            raise RetryLater(f"there is no stream {settings.stream}: make it, with the subjects {wanted}, or set create = true") from None
        age = settings.keep_days * 86_400
        config = StreamConfig(
            name=settings.stream,
            subjects=[wanted],
            storage=StorageType.FILE,
            num_replicas=settings.replicas,
            max_age=age,
            duplicate_window=min(KNOWN_AGAIN, age or KNOWN_AGAIN),
        )
        info = await _asked(lambda: stream.add_stream(config))
    if info.config.no_ack:
        raise RetryLater(f"the stream {settings.stream} acknowledges nothing: make it without no_ack")
    if not any(_covers(each.split("."), wanted.split(".")) for each in info.config.subjects or []):
        raise RetryLater(f"the stream {settings.stream} does not take {wanted}: add that to its subjects")
    return info


def _covers(pattern: Sequence[str], subject: Sequence[str]) -> bool:
    """Whether a stream that listens to this takes all of that."""
    if pattern[0] == ">" or subject[0] == ">":
        return pattern[0] == ">"
    return pattern[0] in {"*", subject[0]} and len(pattern) > 1 and len(subject) > 1 and _covers(pattern[1:], subject[1:])


async def _asked(question: Callable[[], Awaitable[T]]) -> T:
    """What the server answers. Raises `RetryLater`, and `NotFoundError` where there is nothing."""
    try:
        return await question()
    except NotFoundError:
        raise
    except (nats.errors.Error, TimeoutError) as error:
        raise _in_our_words(error) from None


def _in_our_words(error: BaseException) -> Exception:
    """What a failure means."""
    if isinstance(error, RetryLater):
        return error
    if isinstance(error, APIError):
        if error.err_code == TOO_LARGE:
            return Unreadable("the event is larger than the stream takes")
        return RetryLater(f"the server refuses ({error.description or type(error).__name__})")
    return RetryLater(f"the server cannot be asked ({type(error).__name__})")


def _jetstream(monitoring: str) -> Any:
    with urlopen(f"{monitoring.rstrip('/')}/jsz", timeout=ASK) as answer:  # noqa: S310 - http, as the settings were looked at
        return msgspec.json.decode(answer.read(1_000_000))


async def _silent(error: Exception) -> None:
    """What the library would write to a log of its own is raised where it matters."""
