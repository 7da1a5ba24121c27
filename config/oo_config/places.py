"""Where systemd and the XDG base directories say that things belong.

Sources: systemd.exec(5) for STATE_DIRECTORY, RUNTIME_DIRECTORY and CREDENTIALS_DIRECTORY; the XDG Base Directory
Specification 0.8, which says to ignore a relative path in its variables.
"""

from collections.abc import Mapping
from pathlib import Path

OURS = "oo-integrations"


def folder(environ: Mapping[str, str], variable: str) -> Path | None:
    """Return the folder that a variable names, or None where it names no absolute one."""
    named = environ.get(variable, "")
    return Path(named) if named.startswith("/") and "\0" not in named else None


def unit_folder(environ: Mapping[str, str], variable: str) -> Path | None:
    """Return the first of the folders that systemd made for the unit and joined by colons, or None."""
    return folder({variable: environ.get(variable, "").split(":")[0]}, variable)


def state(environ: Mapping[str, str]) -> Path:
    """Return the folder for what must outlive a restart; it begins with ~ where the home folder decides."""
    return unit_folder(environ, "STATE_DIRECTORY") or (folder(environ, "XDG_STATE_HOME") or Path("~/.local/state")) / OURS


def credential(environ: Mapping[str, str], name: str) -> Path | None:
    """Return the path of a systemd credential, or None where the unit was given none of that name."""
    given = folder(environ, "CREDENTIALS_DIRECTORY")
    try:
        return given / name if given and (given / name).exists() else None
    except OSError:  # another unit's credentials, by a variable that leaked: not ours to read
        return None


def config_files(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """Return where a configuration file may lie, the operator's own before the host's."""
    home = folder(environ, "HOME")
    own = folder(environ, "XDG_CONFIG_HOME") or (home and home / ".config")
    host = Path("/etc") / OURS / "oo.toml"
    return (own / OURS / "oo.toml", host) if own else (host,)
