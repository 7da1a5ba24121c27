"""What is wrong: what each client was told, held against what the store, the stream and the provider have in the end. Touches nothing."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One event, as whoever reads it sees it."""

    id: str
    type: str
    account: str  #: whose, as the provider names it
    subject: str
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """All that can be known in the end."""

    acknowledged: frozenset[str]  #: messages whose senders were answered 200
    feeds: Mapping[str, Sequence[tuple[str, str]]]  #: account → what each note was, one after the other
    stored: Sequence[str]  #: deliveries in the inbox
    outbox: Sequence[Told]
    stream: Sequence[Told]  #: as it stands there; the same may stand there twice
    rotations: Mapping[str, int] = field(default_factory=dict)  #: refresh token → how many it was exchanged for
    shown: Mapping[str, int] = field(default_factory=dict)  #: refresh token → how often the provider saw it
    interruptions: int = 0  #: after each of them an exchange may be tried again
    calls: Sequence[float] = ()  #: when the provider was called, in seconds
    rate: float = 0.0  #: calls in a second that it allows; 0: any
    slack: float = 1.0  #: seconds by which a call may be late


def wrong(history: History) -> list[str]:
    """Each thing that is wrong, in words; nothing where all promises held."""
    outbox, stream = history.outbox, _once(history.stream)
    found = [f"acknowledged and not stored: {name}" for name in sorted(history.acknowledged - set(history.stored))]
    messages = Counter(told.subject for told in outbox if told.type == "fire.message")
    found += [f"acknowledged and not told: {name}" for name in sorted(history.acknowledged - messages.keys())]
    found += [f"told twice: {name}" for name, times in messages.items() if times > 1]
    found += [f"stored twice: {name}" for name, times in Counter(history.stored).items() if times > 1]
    found += [f"an event id twice: {id_}" for id_, times in Counter(told.id for told in outbox).items() if times > 1]
    found += _notes("the outbox", outbox, history.feeds) + _notes("the stream", stream, history.feeds)
    found += [f"not in the stream: {id_}" for id_ in sorted({told.id for told in outbox} - {told.id for told in stream})]
    found += [f"only in the stream: {id_}" for id_ in sorted({told.id for told in stream} - {told.id for told in outbox})]
    found += [f"a refresh token was exchanged {times} times" for times in history.rotations.values() if times > 1]
    again = sum(times - 1 for times in history.shown.values())
    if again > history.interruptions:
        found.append(f"refresh tokens were shown again {again} times, with {history.interruptions} interruptions")
    return found + _calls(history)


def _once(stream: Sequence[Told]) -> list[Told]:
    """Each event where it comes first."""
    return list({told.id: told for told in reversed(stream)}.values())[::-1]


def _notes(where: str, told: Sequence[Told], feeds: Mapping[str, Sequence[tuple[str, str]]]) -> list[str]:
    """Each note was all that it was, in order."""
    was: dict[tuple[str, str], list[str]] = defaultdict(list)
    for account, feed in feeds.items():
        for note, title in feed:
            was[account, note].append(title)
    says: dict[tuple[str, str], list[str]] = defaultdict(list)
    for each in told:
        if each.type == "fire.note":
            says[each.account, each.subject].append(each.title)
    keys = sorted(was.keys() | says.keys())
    return [f"in {where} {' '.join(key)} is not what it was: {_differ(was[key], says[key])}" for key in keys if was[key] != says[key]]


def _differ(was: Sequence[str], says: Sequence[str]) -> str:
    at = next((number for number, (one, other) in enumerate(zip(was, says, strict=False)) if one != other), min(len(was), len(says)))
    return f"{len(says)} of {len(was)}, and from the {at + 1}th on {list(says[at : at + 3])} for {list(was[at : at + 3])}"


def _calls(history: History) -> list[str]:
    """In no stretch more calls than a bucket of one second gives."""
    if not history.rate:
        return []
    calls = sorted(history.calls)
    for start in range(len(calls)):
        end = min(start + 200, len(calls) - 1)
        for last in {end, (start + end) // 2}:
            allowed = history.rate * (calls[last] - calls[start] + 1 + history.slack)
            if last - start + 1 > allowed:
                return [
                    f"the provider was called {last - start + 1} times in {calls[last] - calls[start]:.2f} s, at {history.rate:g} a second"
                ]
    return []
