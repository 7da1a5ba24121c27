"""Hints between the daemons on one PostgreSQL: a word that says where something is new, by NOTIFY.

Nothing depends on them: who is not told looks by itself after a while. So they are sent after the commit they speak of, at most so many a
second, and what is lost on the way is lost.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

import psycopg

from oo_daemon.store.errors import CannotOpen
from oo_daemon.store.postgresql import PostgresqlDatabase

CHANNEL = "oo"
#: Seconds between two tellings: what comes meanwhile is told together. A NOTIFY holds a lock that all others wait for.
GAP = 0.02
#: Seconds after which a listener looks whether it is to end, and a connection that was lost is tried again.
LOOK = 1.0
#: The last word: it has our own listener look up, and end.
NOTHING = "-"


class Hints:
    """Tells and hears words, each in a thread and over a connection of its own."""

    def __init__(self, database: PostgresqlDatabase) -> None:
        self._database = database
        self._listeners: dict[str, list[Callable[[], None]]] = {}
        self._words: set[str] = set()
        self._news = threading.Condition()
        self._closing = threading.Event()
        self._teller: int | None = None  #: which backend tells our words: we need not hear them ourselves
        self._threads = [threading.Thread(target=work, name=f"oo-{work.__name__[1:]}") for work in (self._tell_on, self._hear)]
        for thread in self._threads:
            thread.start()

    def on(self, word: str, listener: Callable[[], None]) -> None:
        """Have the listener called when another daemon tells this word, and when some may have been missed; from any thread."""
        self._listeners.setdefault(word, []).append(listener)

    def tell(self, word: str) -> None:
        """Tell the other daemons a word, soon. From any thread."""
        with self._news:
            self._words.add(word)
            self._news.notify()

    def close(self) -> None:
        """Stop both threads."""
        self._closing.set()
        self.tell(NOTHING)
        for thread in self._threads:
            thread.join()

    def _tell_on(self) -> None:
        while True:
            with suppress(psycopg.Error, CannotOpen), self._database.fresh() as connection:
                connection.execute("SET synchronous_commit = off")  # there is nothing to lose
                self._teller = connection.info.backend_pid
                while True:
                    for word in (words := self._taken()):
                        connection.execute("SELECT pg_notify(%s, %s)", (CHANNEL, word))
                    if NOTHING in words:
                        return
                    self._closing.wait(GAP)
            if self._closing.wait(LOOK):
                return

    def _taken(self) -> set[str]:
        with self._news:
            while not self._words:
                self._news.wait()
            words, self._words = self._words, set()
        return words

    def _hear(self) -> None:
        missed: list[str] = []
        while not self._closing.is_set():
            with suppress(psycopg.Error, CannotOpen), self._database.fresh() as connection:
                connection.execute(f"LISTEN {CHANNEL}")
                for word in missed:
                    self._ring(word)
                while not self._closing.is_set():
                    for told in connection.notifies(timeout=LOOK, stop_after=1):
                        if told.pid != self._teller:
                            self._ring(told.payload)
                return
            missed = [*self._listeners]  # for all that we know
            self._closing.wait(LOOK)

    def _ring(self, word: str) -> None:
        for listener in [*self._listeners.get(word, ())]:
            with suppress(Exception):  # a loop that is closed: whoever listened is gone
                listener()
