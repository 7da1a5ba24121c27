"""mypy refuses what a struct refuses only when it is run."""

from pathlib import Path

from mypy import api

ROOT = Path(__file__).parents[2]
CODE = """
import dataclasses
import msgspec

class Struct(msgspec.Struct):
    a: int

@dataclasses.dataclass
class Data:
    a: int

def altered(either: Struct | Data) -> None:
    dataclasses.replace(Data(1), a=2)
    msgspec.structs.replace(Struct(1), a=2)
    dataclasses.replace(Struct(1), a=2)  # refused
    dataclasses.replace(either, a=2)  # refused
    dataclasses.asdict(Struct(1))  # refused
    dataclasses.astuple(Struct(1))  # refused
    msgspec.structs.replace(Data(1), a=2)  # refused
"""


def test_a_struct_is_altered_as_a_struct(tmp_path: Path) -> None:
    """Each call that ends in a `TypeError` is an error of types already, and no other."""
    (tmp_path / "code.py").write_text(CODE)
    options = ("--config-file", str(ROOT / "setup.cfg"), "--cache-dir", str(tmp_path / "cache"), "--no-error-summary")
    told, failed, _ = api.run([*options, str(tmp_path / "code.py")])
    assert failed == ""
    refused = {int(line.split(":")[1]) for line in told.splitlines()}
    assert refused == {number for number, line in enumerate(CODE.splitlines(), 1) if line.endswith("# refused")}, told
