"""Where root keys come from: the key file.

One key per line, newest first; empty lines do not count. A file that others could read or replace is refused, not repaired.
"""

import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path

from oo_vault.box import ROOT_SIZE
from oo_vault.errors import KeyFileExists, KeyFileRefused, KeyMistyped
from oo_vault.keyring import Keyring
from oo_vault.recovery import bundle_text, key_text, parse_bundle, parse_key

_LARGEST = 64 * 1024  # bytes: some nine hundred keys
_BUNDLE = "Write it with `oo vault bundle` where the keys are."
_INIT = "Run `oo vault init` on a new host, or write the recovery key into it."


def create_key_file(path: Path, *, random: Callable[[int], bytes] = os.urandom) -> str:
    """Make a root key, keep it in a new file (0400) and give its recovery text. Durable when this returns."""
    text = key_text(random(ROOT_SIZE))
    create_lines(path, text)
    return text


def add_key(path: Path, *, random: Callable[[int], bytes] = os.urandom) -> str:
    """Put a new root key above those in a key file and give its recovery text."""
    text = key_text(random(ROOT_SIZE))
    add_line(path, text)
    return text


def read_key_file(path: Path) -> Keyring:
    """Read the keyring from a key file, or say in `KeyFileRefused` what is wrong with it."""
    return _ring(read_lines(path), str(path))


def write_bundle(path: Path, keyring: Keyring) -> None:
    """Keep what an ingress process is given in a new file (0400); one that is there is replaced as a whole."""
    _create_folder(path.parent)
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)
    _write(beside, "".join(f"{bundle_text(bundle)}\n" for bundle in keyring.bundles))
    beside.replace(path)
    _sync_folder(path.parent)


def read_bundle_file(path: Path) -> Keyring:
    """Read the keyring of an ingress process, or say in `KeyFileRefused` what is wrong with it."""
    bundles = []
    for number, line in _lines(_read(path), str(path)):
        try:
            bundles.append(parse_bundle(line))
        except KeyMistyped as error:
            raise KeyFileRefused(f"Line {number} of {path} is not a bundle: {error.sentence}", _BUNDLE) from None
    return Keyring.of_bundles(bundles)


def parse_key_lines(text: bytes, *, named: str) -> Keyring:
    """Read root keys, one per line, newest first. `named` says in errors where the lines come from."""
    return _ring(_lines(text, named), named)


def create_lines(path: Path, line: str) -> None:
    """Write a new key file with this line."""
    _create_folder(path.parent)
    try:
        _write(path, f"{line}\n")
    except FileExistsError:
        raise KeyFileExists(f"There is a file at {path} already.", "Keep it: without it nothing sealed with it can be opened.") from None


def add_line(path: Path, line: str) -> None:
    """Put a line above those of a key file, which is whole at every moment and stays its owner's."""
    kept = [kept for _, kept in read_lines(path)]
    owner = path.stat()
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)  # of an attempt that was cut off: the key in it has sealed nothing
    _write(beside, "".join(f"{each}\n" for each in (line, *kept)), owner=(owner.st_uid, owner.st_gid))
    beside.replace(path)
    _sync_folder(path.parent)


def read_lines(path: Path) -> list[tuple[int, str]]:
    """Read the lines of a key file that say something, with their numbers. Raises `KeyFileRefused` where there are none."""
    return _lines(_read(path), str(path))


def parse_line(line: str, where: str) -> bytes:
    """Read a root key from a line, or say in `KeyFileRefused` where it is none."""
    try:
        return parse_key(line)
    except KeyMistyped as error:
        raise KeyFileRefused(f"{where} is not a key: {error.sentence}", error.remedy) from None


def _lines(text: bytes, named: str) -> list[tuple[int, str]]:
    lines = enumerate(text.decode("utf-8", "replace").splitlines(), start=1)
    said = [(number, line.strip()) for number, line in lines if line.strip()]
    if not said:
        raise KeyFileRefused(f"There is no key in {named}.", _INIT)
    return said


def _ring(lines: Iterable[tuple[int, str]], named: str) -> Keyring:
    roots: dict[bytes, int] = {}
    for number, line in lines:
        root = parse_line(line, f"Line {number} of {named}")
        if root in roots:
            raise KeyFileRefused(f"Line {number} of {named} is the same key as line {roots[root]}.", "Remove one of them.")
        roots[root] = number
    return Keyring(list(roots))


def _write(path: Path, text: str, *, owner: tuple[int, int] | None = None) -> None:
    """Write a new file (0400), durably; half of one is not left behind."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o400)
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            os.fchmod(handle, 0o400)  # whatever the umask made of it
            if owner is not None:
                os.fchown(handle, *owner)
            file.write(text)
            file.flush()
            os.fsync(handle)
        _sync_folder(path.parent)
    except BaseException:
        path.unlink()  # half a key file would be refused at every start
        raise


def _read(path: Path) -> bytes:
    try:
        # Not blocking, or a named pipe would hold up the start.
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise KeyFileRefused(f"There is no key file at {path}.", _INIT) from None
    except OSError as error:
        raise KeyFileRefused(
            f"The key file {path} cannot be opened ({error.strerror}).", "Name a regular file that this user owns."
        ) from None
    try:
        _refuse_unsafe(path, os.fstat(handle))
        text = os.read(handle, _LARGEST + 1)
    finally:
        os.close(handle)
    if len(text) > _LARGEST:
        raise KeyFileRefused(f"The key file {path} is too large to be one.", "Name the right file.")
    return text


def _refuse_unsafe(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise KeyFileRefused(f"The key file {path} is not a regular file.", "Name a regular file that this user owns.")
    if found.st_uid not in (os.geteuid(), 0):
        raise KeyFileRefused(
            f"The key file {path} belongs to user {found.st_uid}, who could replace it.", "Give it to this user or to root."
        )
    if found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise KeyFileRefused(
            f"The key file {path} is open to others (mode {stat.S_IMODE(found.st_mode):04o}).", f"Run `chmod 0400 {path}`."
        )


def _create_folder(folder: Path) -> None:
    if folder.is_dir():
        return
    _create_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
