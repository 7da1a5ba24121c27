"""peewee, without the drivers that it would load where they are installed.

psycopg alone is 73 modules and 9 MB, which only a daemon on PostgreSQL needs: `postgresql` brings it.
"""

from __future__ import annotations

import sys

_hidden = [driver for driver in ("psycopg2cffi", "psycopg2", "psycopg", "pymysql", "MySQLdb") if driver not in sys.modules]
sys.modules.update(dict.fromkeys(_hidden))  # type: ignore[arg-type]  # Python's word for: importing it fails
try:
    import peewee
    from playhouse.apsw_ext import APSWDatabase
finally:
    for _driver in _hidden:
        del sys.modules[_driver]

__all__ = ["APSWDatabase", "peewee"]
