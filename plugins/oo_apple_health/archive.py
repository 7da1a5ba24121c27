"""The file that the Health app exports: a zip, or the XML out of it.

Nothing is ever unpacked to a disk, so that names in the archive lead nowhere. The main file is found by what it holds: its name is in
the language of the phone.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, Final

from oo_sdk import Unreadable, Upload

AGAIN: Final = "export it again in the Health app and hand in the new file"
#: How far into a file its nature must show: the DTD before the first element has some 10 kB.
HEAD: Final = 1024 * 1024
#: Largest files that are read, unpacked (bytes): ten years of a watch come to 3 GB, a long day's route to 5 MB.
MAIN_LIMIT: Final = 64 * 1024**3
PART_LIMIT: Final = 64 * 1024**2
#: Most files in an archive.
MOST: Final = 200_000
#: What the zip says where its parts cannot be read.
BROKEN: Final = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError)
_ROOT: Final = b"<HealthData"


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """An export that was looked at. `parts` are the files beside the main one, by their names below the root folder."""

    upload: Upload = field(repr=False)
    archive: zipfile.ZipFile | None
    main: str
    parts: Mapping[str, zipfile.ZipInfo]

    @contextmanager
    def records(self) -> Iterator[IO[bytes]]:
        """The main file, unpacked on the way."""
        with self.upload.open() if self.archive is None else self._member(self.archive, self.main) as stream:
            yield stream

    def part(self, name: str) -> bytes:
        """One of the small files beside it; empty where the archive has none of that name, or one that cannot be read."""
        info = self.parts.get(name.lstrip("/"))
        if self.archive is None or info is None or info.file_size > PART_LIMIT:
            return b""
        try:
            with self._member(self.archive, info) as stream:
                body = stream.read(PART_LIMIT + 1)
        except BROKEN:
            return b""
        return body if len(body) <= PART_LIMIT else b""

    @staticmethod
    def _member(archive: zipfile.ZipFile, member: str | zipfile.ZipInfo) -> IO[bytes]:
        return archive.open(member)


@contextmanager
def opened(upload: Upload) -> Iterator[Export]:
    """Look at an upload. Raises `Unreadable` where it is no export."""
    with upload.open() as file:
        head = file.read(HEAD)
    if not head:
        raise Unreadable(f"The file is empty: {AGAIN}.")
    if not head.startswith((b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")):
        if _ROOT not in head:
            raise Unreadable("This is no export of the Health app: hand in the export.zip that it makes, or the export.xml out of it.")
        yield Export(upload=upload, archive=None, main=upload.name, parts={})
        return
    with upload.open() as file:
        try:
            archive = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
            raise Unreadable(f"The zip file is not whole, as if it had been cut off: {AGAIN}.") from None
        with archive:
            names = _names(archive)
            yield Export(upload=upload, archive=archive, main=_main(archive, names), parts=names)


def _names(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The files by their names below the root folder."""
    infos = archive.infolist()
    if len(infos) > MOST:
        raise Unreadable(f"The zip file holds {len(infos)} files, which no export does: {AGAIN}.")
    names = {}
    for info in infos:
        name = _name(info)
        if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/"):
            raise Unreadable(f"The zip file holds a name that leads out of it, which no export does: {AGAIN}.")
        if not info.is_dir():
            names[name.partition("/")[2] or name] = info
    return names


def _name(info: zipfile.ZipInfo) -> str:
    """The name as it was meant: some phones write UTF-8 without saying so, which is then taken for an old code page."""
    if info.flag_bits & 0x800:
        return info.filename
    try:
        return info.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return info.filename


def _main(archive: zipfile.ZipFile, names: Mapping[str, zipfile.ZipInfo]) -> str:
    """Find the file with the records in it: the largest whose head says so."""
    inner = False
    for name, info in sorted(names.items(), key=lambda item: -item[1].file_size):
        lower = name.lower()
        inner |= lower.endswith(".zip")
        if not lower.endswith(".xml") or lower.endswith("cda.xml"):
            continue
        if info.flag_bits & 0x1:
            raise Unreadable("The zip file is locked with a password: hand in the export as the Health app made it.")
        try:
            with archive.open(info) as stream:
                head = stream.read(HEAD)
        except BROKEN:
            raise Unreadable(f"The zip file is damaged: {AGAIN}.") from None
        if _ROOT in head:
            if info.file_size > MAIN_LIMIT:
                raise Unreadable(f"The export says that it unpacks to {info.file_size} bytes, which no export does: {AGAIN}.")
            return info.filename
    if inner:
        raise Unreadable("There is another zip file in this zip file: unpack it once, and hand in the export.zip that is in it.")
    raise Unreadable("There is no export of the Health app in this zip file: hand in the export.zip that it makes.")
