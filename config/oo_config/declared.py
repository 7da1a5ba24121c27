"""Declaring: the type, the default and the reason of a setting, in one line.

A section is a frozen dataclass; its fields are made by `setting` and `derived`, and everything that is known about
them is read back from there.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import field, fields, is_dataclass
from typing import Any, TypeVar, get_type_hints

import msgspec

from oo_config.spelling import Spelling, spelling, toml

T = TypeVar("T")

#: The settings decided so far, by "section.key", in the order of declaration.
Known = Mapping[str, Any]


class Declared(msgspec.Struct, frozen=True, kw_only=True):
    """One setting, as it stands in its section."""

    section: str
    key: str
    kind: Any  #: the annotated type
    default: Callable[[Mapping[str, str], Known], Any]  #: from the environment and what is known
    derivation: str | None  #: how the default comes about, where it is not always the same
    reason: str

    @property
    def name(self) -> str:
        """Say its name in a file: section.key."""
        return f"{self.section}.{self.key}"

    @property
    def variable(self) -> str:
        """Say its name in the environment."""
        return f"OO_{self.section}_{self.key}".upper()

    def spelling(self, *, text: bool = False) -> Spelling:
        """Return how it is written in a file or, with `text`, in a variable."""
        return spelling(self.kind, text=text)

    def written(self, value: Any) -> str:
        """Write a value of it as TOML."""
        return toml(self.spelling().write(value))

    @property
    def default_words(self) -> str:
        """Say what holds where nothing is set: a value as TOML, or how it comes about."""
        return self.derivation or self.written(self.default({}, {}))


def setting(default: T, reason: str) -> T:
    """Declare a setting that has one default."""
    declared: T = field(default=default, metadata={"default": lambda environ, known: default, "derivation": None, "reason": reason})
    return declared


def derived(default: Callable[[Mapping[str, str], Known], T], derivation: str, reason: str) -> T:
    """Declare a setting whose default follows from the environment and the settings declared before it."""
    declared: T = field(metadata={"default": default, "derivation": derivation, "reason": reason})
    return declared


def sections(root: type) -> Mapping[str, type]:
    """Return the sections among the fields of the settings class, by name."""
    hints = get_type_hints(root)
    return {each.name: hints[each.name] for each in fields(root) if is_dataclass(hints[each.name])}


def declarations(root: type) -> Iterator[Declared]:
    """Return every setting in the order of declaration, which is the order in which defaults are derived."""
    for section, declaring in sections(root).items():
        hints = get_type_hints(declaring, include_extras=True)
        for each in fields(declaring):
            yield Declared(
                section=section,
                key=each.name,
                kind=hints[each.name],
                default=each.metadata["default"],
                derivation=each.metadata["derivation"],
                reason=each.metadata["reason"],
            )


def defaults(root: type, environ: Mapping[str, str]) -> Known:
    """Return the default of every setting where nothing is set but the environment's folders."""
    known: dict[str, Any] = {}
    for each in declarations(root):
        known[each.name] = each.default(environ, known)
    return known
