"""What is loaded of peewee."""

from __future__ import annotations

import subprocess
import sys


def test_a_daemon_on_a_file_loads_no_driver_of_another_database() -> None:
    """Also where one is installed; whoever wants it gets it."""
    code = "import oo_daemon.app, sys; print(*sys.modules); import oo_daemon.store.postgresql, peewee; print(peewee.psycopg.__name__)"
    *before, driver = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout.split()
    assert {"psycopg", "psycopg2", "pymysql"}.isdisjoint(before)
    assert driver == "psycopg"
