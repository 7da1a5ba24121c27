"""What people read about settings: each one described, an example file, and what holds now."""

import textwrap
from collections.abc import Iterator

import msgspec

from oo_config.declared import declarations, defaults, sections
from oo_config.settings import Origin, Settings

PREFACE = """\
# The settings of oO integrations, each with its default.
#
# To set one, remove the # before it. The variable named in brackets wins over this file.
# Durations are numbers of seconds, or have a unit: ms, s, min, h, d.
# Sizes are numbers of bytes, or have a unit: B, kB, KiB, MB, MiB, GB, GiB.
# In a variable the items of a list are separated by commas."""

PLUGINS = """
# What a connector itself can be told stands under its id, or in OO_CONNECTORS__<ID>__<KEY>:
# [connectors.todoist]

# A sink runs where its section stands, or where a variable OO_SINKS__<ID>__<KEY> tells it something:
# [sinks.acme_file]
"""


class Described(msgspec.Struct, frozen=True, kw_only=True):
    """One setting as the manual tells it."""

    section: str
    about: str  #: what the section is for, a sentence
    key: str
    type: str  #: what may be written, in words: "a whole number from 0 to 65535"
    default: str  #: as TOML, or in words how it comes about
    reason: str
    variable: str


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """One setting as it holds now."""

    section: str
    key: str
    value: str  #: as TOML; of a plugin's own settings only that they are set, since one may be a secret
    origin: Origin


def describe() -> Iterator[Described]:
    """Return every setting in the order of declaration."""
    about = {name: (section.__doc__ or "").strip() for name, section in sections(Settings).items()}
    for each in declarations(Settings):
        yield Described(
            section=each.section,
            about=about[each.section],
            key=each.key,
            type=each.spelling().words,
            default=each.default_words,
            reason=each.reason,
            variable=each.variable,
        )


def example() -> str:
    """Return a TOML file with every setting in a comment; with those uncommented it says what holds without it."""
    values = defaults(Settings, {})
    lines = [PREFACE]
    section = ""
    for declared, told in zip(declarations(Settings), describe(), strict=True):
        if told.section != section:
            section = told.section
            lines += ["", _comment(told.about), f"[{section}]"]
        default = f"; by default {told.default}" if declared.derivation else ""
        lines += ["", _comment(f"{told.reason[0].upper()}{told.reason[1:]} ({told.variable}): {told.type}{default}.")]
        lines += [f"#{told.key} = {declared.written(values[declared.name])}"]
    return "\n".join([*lines, "", PLUGINS])


def show(settings: Settings) -> Iterator[Shown]:
    """Return every setting as it holds, then those of plugins."""
    for each in declarations(Settings):
        value = each.written(getattr(getattr(settings, each.section), each.key))
        yield Shown(section=each.section, key=each.key, value=value, origin=settings.origins[each.name])
    for name, origin in settings.origins.items():
        section, _, key = name.partition(".")
        if section in {"connectors", "sinks", "key_sources"}:
            yield Shown(section=section, key=key, value="…", origin=origin)


def _comment(text: str) -> str:
    return textwrap.fill(text, 110, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False, break_long_words=False)
