"""What can be made to go wrong, each by a name: a table of switches, and which of them are on.

A switch stays on for so many requests (or pushes) that it applies to, or until it is switched off.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

Json: TypeAlias = dict[str, Any]

#: When a switch works: at once; in place of the answer; on the answer once all has happened; or in the middle of the work.
When: TypeAlias = Literal["at once", "before", "after", "within"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """One way to misbehave."""

    what: str
    when: When
    where: frozenset[str] = frozenset()  #: the endpoints that it applies to; empty: the provider's API
    args: Mapping[str, Any] = field(default_factory=dict)  #: what can be set, with its default


class NoSuchSwitch(ValueError):
    """The name, an argument or a number is not in the table: look it up there."""


@dataclass(slots=True, kw_only=True)
class _On:
    times: int | None
    where: frozenset[str]
    args: Json


class Switches:
    """The switches that are on.

    `api` names the endpoints of the provider's API, `aims` those that a switch can be aimed at by the argument `endpoint`; `at_once`
    carries out those that work immediately.
    """

    def __init__(
        self,
        table: Mapping[str, Switch],
        at_once: Mapping[str, Callable[[Json], None]],
        *,
        api: frozenset[str] = frozenset({"api"}),
        aims: frozenset[str] = frozenset(),
    ) -> None:
        self.table: Mapping[str, Switch] = table
        self._at_once = at_once
        self._api = api
        self._aims = aims
        self._on: dict[str, _On] = {}

    @property
    def sentences(self) -> Mapping[str, str]:
        """What can go wrong: names and a sentence each."""
        return {name: switch.what for name, switch in self.table.items()}

    def on(self, name: str, *, times: int | None = None, **args: Any) -> None:
        """Switch one on, for so many requests or until it is switched off."""
        switch = self.table.get(name)
        if switch is None:
            raise NoSuchSwitch(f"There is no switch {name!r}; the names are {', '.join(self.table)}.")
        endpoint = args.pop("endpoint", None)
        if endpoint is not None and (endpoint not in self._aims or switch.when not in {"before", "after"}):
            raise NoSuchSwitch(f"{name} cannot be aimed at {endpoint!r}; the endpoints are {', '.join(sorted(self._aims)) or 'fixed'}.")
        for given, value in args.items():
            if given not in switch.args or (isinstance(switch.args[given], int) and not _natural(value)):
                raise NoSuchSwitch(f"{name} takes no {given}={value!r}; it takes {dict(switch.args) or 'nothing'}.")
        if times is not None and not (_natural(times) and times > 0):
            raise NoSuchSwitch(f"times={times!r} is no number of requests; leave it out for no end.")
        if switch.when == "at once":
            self._at_once[name]({**switch.args, **args})
            return
        where = switch.where or self._api if endpoint is None else frozenset({endpoint})
        self._on[name] = _On(times=times, where=where, args={**switch.args, **args})

    def off(self, name: str | None = None) -> None:
        """Switch one off, or all of them."""
        if name is None:
            self._on.clear()
        self._on.pop(name or "", None)

    def active(self) -> dict[str, Json]:
        """Give the switches that are on: {name: {times, args}}."""
        return {name: {"times": on.times, "args": on.args} for name, on in self._on.items()}

    def take(self, name: str, endpoint: str | None = None) -> Json | None:
        """Give the arguments of a switch that is on here, and count it as used; None when it is off."""
        on = self._on.get(name)
        if on is None or (endpoint is not None and endpoint not in on.where):
            return None
        if on.times is not None:
            on.times -= 1
            if on.times == 0:
                del self._on[name]
        return on.args

    def taken(self, when: When, endpoint: str) -> list[tuple[str, Json]]:
        """Take every switch of a kind that is on here, in the order of the table."""
        names = [name for name, switch in self.table.items() if switch.when == when and name in self._on]
        return [(name, args) for name in names if (args := self.take(name, endpoint)) is not None]


def _natural(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
