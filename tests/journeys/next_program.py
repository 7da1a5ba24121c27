"""The program as it will be: this one, and what it lives on is so many steps further. `python next_program.py SCHEMA …` is `oo …`."""

from __future__ import annotations

import sys

from oo_daemon.cli import main
from oo_daemon.store import migrations
from oo_daemon.store.migrations import MIGRATIONS, Migration


def step(number: int) -> Migration:
    """A change as they come: a column that is filled, a table, an index."""
    return Migration(
        number=number,
        name=f"step_{number}",
        statements=(
            f"ALTER TABLE delivery ADD COLUMN step_{number} TEXT NOT NULL DEFAULT ''",
            f"UPDATE delivery SET step_{number} = delivery_id",
            f"CREATE TABLE step_{number} (id {{int}} NOT NULL PRIMARY KEY)",
            f"CREATE INDEX delivery_by_step_{number} ON delivery (step_{number})",
        ),
    )


def become(schema: int) -> None:
    """Be the program of this schema."""
    migrations.MIGRATIONS = (*MIGRATIONS, *map(step, range(MIGRATIONS[-1].number + 1, schema + 1)))


if __name__ == "__main__":
    become(int(sys.argv.pop(1)))
    main()
