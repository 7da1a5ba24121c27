"""The configuration file: which one, whether it can be trusted, and the TOML in it."""

import os
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from oo_config.places import config_files
from oo_config.problems import ConfigError, Problem


def read(path: Path | None, environ: Mapping[str, str]) -> tuple[Path | None, dict[str, Any]]:
    """Return the file that holds the settings and its tables; None and no tables where there is no file.

    The file is `path`, else the one that OO_CONFIG names, else the first that exists of those where one may lie.
    Raises ConfigError.
    """
    if path is None and "OO_CONFIG" in environ:
        if not environ["OO_CONFIG"]:
            raise _refusal("OO_CONFIG", "This is empty.", "Give it the path of a TOML file, or unset it.")
        path = Path(environ["OO_CONFIG"])
    for candidate in config_files(environ) if path is None else (path,):
        try:
            return candidate, _tables(candidate, _content(candidate))
        except (FileNotFoundError, NotADirectoryError):
            if path is not None:
                remedy = "Write it (`oo config example` prints one to begin with), or name another."
                raise _refusal(str(path), "There is no such file.", remedy) from None
    return None, {}


def _content(path: Path) -> bytes:
    try:
        # Without waiting: a FIFO would keep the start hanging until somebody writes to it.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            mode = os.fstat(file.fileno()).st_mode
            if not stat.S_ISREG(mode):
                raise _refusal(str(path), "This is not a regular file.", "Name a TOML file.")
            if mode & stat.S_IWOTH:
                sentence = "Everyone on this host may write to it, and so decide what is loaded and who administers."
                raise _refusal(str(path), sentence, "Check what it holds, then run `chmod o-w` on it.")
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        raise
    except IsADirectoryError:
        raise _refusal(str(path), "This is a folder.", "Name the TOML file itself.") from None
    except OSError as error:
        remedy = "Let the user who runs this read it, or name another file with OO_CONFIG."
        raise _refusal(str(path), f"It cannot be read: {error.strerror}.", remedy) from None
    except ValueError:
        raise _refusal(repr(str(path)), "This is no path.", "Name a TOML file.") from None


def _tables(path: Path, content: bytes) -> dict[str, Any]:
    try:
        return tomllib.loads(content.decode())
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _refusal(f"{path}, line {line}", "This is not UTF-8 text.", "Save the file as UTF-8.") from None
    except tomllib.TOMLDecodeError as error:
        what, _, where = str(error).removesuffix(")").partition(" (at ")
        remedy = 'Correct it there. A text stands in quotes, as in host = "127.0.0.1", and a key only once in its section.'
        raise _refusal(f"{path}, {where}", f"{what}.", remedy) from None
    except (ValueError, RecursionError):
        # tomllib's own limits, which it does not call errors of the TOML: 4,300 digits, deep nesting.
        sentence = "It holds a number of thousands of digits, or lists nested too deep."
        raise _refusal(str(path), sentence, "Write only settings into it.") from None


def _refusal(place: str, sentence: str, remedy: str) -> ConfigError:
    return ConfigError((Problem(place=place, sentence=sentence, remedy=remedy),))
