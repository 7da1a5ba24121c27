"""Loading: what the file says, what the environment says over it, and the defaults for the rest."""

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from oo_config import file, places
from oo_config.declared import Declared, declarations, sections
from oo_config.problems import ConfigError, Problem
from oo_config.settings import RELATIONS, Origin, Settings
from oo_config.spelling import toml

#: Variables with our prefix that are no settings: the file's name, a root key, and what only tests read.
NOT_SETTINGS = re.compile(r"OO_CONFIG|OO_ROOT_KEY|OO_TEST_.*", re.DOTALL)
#: Sections that hold a table for each plugin, read by whoever brings that plugin; each with what a table in it is called after.
OF_PLUGINS = {"connectors": "connector", "sinks": "sink", "key_sources": "key source"}
DEFAULT = Origin(kind="default")


def load(path: Path | None = None, environ: Mapping[str, str] = os.environ) -> Settings:
    """Return the settings of a file and the environment.

    The file is `path`, else the one that OO_CONFIG names, else the first that exists of
    $XDG_CONFIG_HOME/oo-integrations/oo.toml and /etc/oo-integrations/oo.toml, else none. A variable wins over the
    file. Raises ConfigError with every problem there is.
    """
    found = _Found()
    try:
        named, tables = file.read(path, environ)
        found.in_file(Origin(kind="file", name=str(named)), tables)
    except ConfigError as error:
        found.problems.extend(error.problems)
    found.in_variables(environ)
    settings = found.settings(environ)
    if found.problems:
        raise ConfigError(tuple(found.problems))
    return settings


@dataclass(slots=True, eq=False)
class _Found:
    """What was found so far, and what is wrong with it."""

    problems: list[Problem] = field(default_factory=list)
    written: dict[str, tuple[Any, Origin]] = field(default_factory=dict)  #: by section.key, unread
    tables: dict[str, dict[str, dict[str, Any]]] = field(default_factory=lambda: {section: {} for section in OF_PLUGINS})
    origins: dict[str, Origin] = field(default_factory=dict)

    def in_file(self, origin: Origin, tables: Mapping[str, Any]) -> None:
        """Take what a file says."""
        names = [each.name for each in declarations(Settings)]
        known = [*sections(Settings), *OF_PLUGINS]
        for section, table in tables.items():
            if section not in known:
                nearest = _nearest(section, known if isinstance(table, dict) else names)
                self._problem(_place(origin, section), "There is no such section.", nearest)
            elif not isinstance(table, dict):
                self._problem(_place(origin, section), "This must be a section.", f"Write [{section}] above its settings.")
            elif section in OF_PLUGINS:
                self._plugins_in_file(origin, section, table)
            else:
                for key, raw in table.items():
                    if f"{section}.{key}" in names:
                        self.written[f"{section}.{key}"] = raw, origin
                    else:
                        nearest = _nearest(f"{section}.{key}", names)
                        self._problem(_place(origin, section, key), "There is no such setting.", nearest)

    def _plugins_in_file(self, origin: Origin, section: str, tables: Mapping[str, Any]) -> None:
        for id_, table in tables.items():
            if isinstance(table, dict):
                self.tables[section][id_] = table
                self.origins |= {f"{section}.{id_}.{key}": origin for key in table}
            else:
                remedy = f"Write [{section}.<id>] above the settings of a {OF_PLUGINS[section]}."
                self._problem(_place(origin, section, id_), "This must be a section.", remedy)

    def in_variables(self, environ: Mapping[str, str]) -> None:
        """Take what the environment says, over what the file says."""
        names = {each.variable: each.name for each in declarations(Settings)}
        for variable in sorted(each for each in environ if each.startswith("OO_") and not NOT_SETTINGS.fullmatch(each)):
            origin, text = Origin(kind="variable", name=variable), environ[variable].strip()
            section = next((each for each in OF_PLUGINS if variable.startswith(f"OO_{each}".upper())), None)
            if section is not None:
                self._plugin_in_variable(origin, section, text)
            elif variable in names:
                self.written[names[variable]] = text, origin
            else:
                self._problem(_place(origin), "No setting has this variable.", _nearest(variable, names))

    def _plugin_in_variable(self, origin: Origin, section: str, text: str) -> None:
        prefix = f"OO_{section}".upper()
        rest, *parts = origin.name.removeprefix(prefix).lower().split("__")
        if rest or len(parts) < 2 or not all(parts):
            remedy = f"Write {prefix}__<ID>__<KEY>, with two underscores between the parts."
            self._problem(_place(origin), f"This names no setting of a {OF_PLUGINS[section]}.", remedy)
            return
        *tables, key = parts
        table: Any = self.tables[section]
        for each in tables:
            table = table.setdefault(each, {}) if isinstance(table, dict) else None
        if not isinstance(table, dict) or isinstance(table.get(key), dict):
            remedy = "Rename this setting or the one that it would be a part of."
            self._problem(_place(origin), "A setting cannot be both a value and a table.", remedy)
            return
        table[key] = text
        self.origins[".".join([section, *parts])] = origin

    def settings(self, environ: Mapping[str, str]) -> Settings:
        """Read what was written, derive what was not, and check how it goes together.

        A setting with a problem counts as unset, so that the others can be looked at.
        """
        declared = list(declarations(Settings))
        values: dict[str, Any] = {}
        broken: set[str] = set()
        for each in declared:
            problems = len(self.problems)
            value = self._value(each, values, environ)
            values[each.name] = self._at_home(each, value, environ) if isinstance(value, Path) else value
            if len(self.problems) > problems:
                broken.add(each.name)
        settings = Settings(
            **{
                name: section(**{each.key: values[each.name] for each in declared if each.section == name})
                for name, section in sections(Settings).items()
            },
            connectors=_frozen(self.tables["connectors"]),
            sinks=_frozen(self.tables["sinks"]),
            key_sources=_frozen(self.tables["key_sources"]),
            origins=MappingProxyType(self.origins),
        )
        for relation in RELATIONS:
            if broken.isdisjoint(relation.between) and not relation.holds(settings):
                culprits = [name for name in relation.between if self.origins[name] != DEFAULT]
                name = (culprits or relation.between)[0]
                self._problem(_place(self.origins[name], name), relation.sentence, relation.remedy)
        return settings

    def _value(self, declared: Declared, known: Mapping[str, Any], environ: Mapping[str, str]) -> Any:
        raw, origin = self.written.get(declared.name, (None, DEFAULT))
        self.origins[declared.name] = origin
        if origin == DEFAULT:
            return declared.default(environ, known)
        spelling = declared.spelling(text=origin.kind == "variable")
        try:
            return spelling.read(raw)
        except ValueError:
            remedy = f"Correct it, or leave it out for the default: {declared.default_words}."
            self._problem(_place(origin, declared.name), f"This must be {spelling.words}.", remedy)
            return declared.default(environ, known)

    def _at_home(self, declared: Declared, path: Path, environ: Mapping[str, str]) -> Path:
        if path.parts[0] != "~":
            return path
        home = places.folder(environ, "HOME")
        if home is None:
            remedy = f"Set HOME, or give {declared.name} a path that begins with /."
            place = _place(self.origins[declared.name], declared.name)
            self._problem(place, "Without HOME in the environment ~ names no folder.", remedy)
        return (home or Path("/")) / Path(*path.parts[1:])

    def _problem(self, place: str, sentence: str, remedy: str) -> None:
        self.problems.append(Problem(place=place, sentence=sentence, remedy=remedy))


def _frozen(tables: Mapping[str, dict[str, Any]]) -> Mapping[str, Mapping[str, Any]]:
    return MappingProxyType({id_: MappingProxyType(table) for id_, table in tables.items()})


def _place(origin: Origin, *parts: str) -> str:
    """Say where to look: the variable, or the file and the setting in it, or only the setting."""
    if origin.kind == "variable":
        return origin.name
    name = ".".join(part if re.fullmatch(r"[\w.-]+", part) else toml(part) for part in parts)
    return f"{origin.name}, {name}" if origin.kind == "file" else name


def _nearest(name: str, known: Iterable[str]) -> str:
    """Point to the known name that was probably meant: the same key of another section, or the nearest spelling."""
    known = list(known)
    key = name.rpartition(".")[2]
    same_key = [each for each in known if each.rpartition(".")[2] == key]
    # 80 characters are longer than any of our names, and the comparison is quadratic.
    meant = same_key or difflib.get_close_matches(name[:80], known, n=1, cutoff=0.75)
    return f"Did you mean {meant[0]}?" if meant else "Remove it; `oo config example` shows every setting there is."
