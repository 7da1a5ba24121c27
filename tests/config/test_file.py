"""Which file is read, and which is refused."""

import os
from pathlib import Path

import pytest

from oo_config import ConfigError, Problem, load

HOME = {"HOME": "/nowhere"}


def refusal(path: Path | None, environ: dict[str, str] = HOME) -> Problem:
    with pytest.raises(ConfigError) as caught:
        load(path, environ)
    (problem,) = caught.value.problems
    return problem


def written(path: Path, port: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"[public]\nport = {port}\n")
    return path


def test_the_named_file_wins(tmp_path: Path) -> None:
    """The argument wins over OO_CONFIG, this over $XDG_CONFIG_HOME, and this over ~/.config."""
    environ = {"HOME": str(tmp_path / "home"), "OO_PLACES_SOCKET": "/run/oo.sock"}  # wherever the folder is, its path is not too long
    written(tmp_path / "home/.config/oo-integrations/oo.toml", 1)
    assert load(environ=environ).public.port == 1
    environ["XDG_CONFIG_HOME"] = str(tmp_path / "xdg")
    written(tmp_path / "xdg/oo-integrations/oo.toml", 2)
    assert load(environ=environ).public.port == 2
    environ["OO_CONFIG"] = str(written(tmp_path / "named.toml", 3))
    assert load(environ=environ).public.port == 3
    assert load(written(tmp_path / "argument.toml", 4), environ).public.port == 4


def test_the_working_folder_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An oo.toml that happens to lie where the command is typed changes nothing."""
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "oo.toml", 1)
    assert load(environ=HOME).public.port == 8710


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    """A file that was asked for and is not there is a problem, whichever way it was named."""
    absent = tmp_path / "absent.toml"
    assert refusal(absent).place == str(absent)
    assert "no such file" in refusal(None, HOME | {"OO_CONFIG": str(absent)}).sentence
    assert refusal(None, HOME | {"OO_CONFIG": ""}).place == "OO_CONFIG"
    assert "no path" in refusal(None, HOME | {"OO_CONFIG": "a\0b"}).sentence


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    """A folder where a file should be is told as such."""
    assert "folder" in refusal(tmp_path).sentence


def test_a_pipe_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    """A FIFO does not keep the start hanging."""
    os.mkfifo(tmp_path / "pipe", 0o600)
    assert "regular file" in refusal(tmp_path / "pipe").sentence


def test_a_file_that_everyone_can_write_is_refused(tmp_path: Path) -> None:
    """Whoever writes the file decides what code is loaded, so not everyone may."""
    path = written(tmp_path / "oo.toml", 1)
    path.chmod(0o666)
    assert "chmod o-w" in refusal(path).remedy
    path.chmod(0o664)
    assert load(path, HOME).public.port == 1


def test_a_file_that_cannot_be_opened_is_not_passed_over(tmp_path: Path) -> None:
    """What the system says of a file that it does not open is passed on, even where nobody named the file."""
    loop = tmp_path / "oo-integrations/oo.toml"
    loop.parent.mkdir()
    loop.symlink_to(loop)
    assert "symbolic links" in refusal(None, HOME | {"XDG_CONFIG_HOME": str(tmp_path)}).sentence


@pytest.mark.parametrize(
    ("content", "place", "sentence"),
    [
        (b"[public]\nport = \n", ", line 2, column 8", "Invalid value"),
        (b"[public\n", ", line 1, column 8", "Expected ']'"),
        (b'[log]\nlevel = "info', ", end of document", "Unterminated"),
        (b"[log]\n[log]\n", ", line 2, column 5", "twice"),
        (b'[log]\nlevel = "\xff"\n', ", line 2", "not UTF-8"),
        (b"[sync]\nbatch = " + b"9" * 5000, "", "thousands of digits"),
        (b"x = " + b"[" * 100_000, "", "nested too deep"),
    ],
)
def test_bad_toml_has_a_line(tmp_path: Path, content: bytes, place: str, sentence: str) -> None:
    """What is no TOML is told with line and column where they are known, and with what to do."""
    path = tmp_path / "oo.toml"
    path.write_bytes(content)
    problem = refusal(path)
    assert problem.place == f"{path}{place}"
    assert sentence in problem.sentence
    assert problem.remedy
