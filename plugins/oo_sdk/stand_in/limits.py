"""A provider's limits: so many requests in a window that slides."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from datetime import datetime, timedelta


class Window:
    """Counts what each one asked in the last while."""

    def __init__(self, length: timedelta) -> None:
        self._length = length
        self._spent: dict[Hashable, deque[datetime]] = {}

    def spend(self, who: Hashable, most: int, now: datetime) -> timedelta | None:
        """Count one more; where that is too much it is not counted, and what comes back is how long to wait."""
        spent = self._spent.setdefault(who, deque())
        while spent and now - spent[0] >= self._length:
            spent.popleft()
        if len(spent) >= most:
            return spent[0] + self._length - now
        spent.append(now)
        return None
