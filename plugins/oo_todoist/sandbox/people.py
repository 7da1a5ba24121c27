"""Who lives in a fresh sandbox: ada and grace, each with a few things to look at."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from oo_todoist.sandbox.world import World

Json = dict[str, Any]

#: how long ago the people set up what they have
AGE = timedelta(days=30)


def settle(world: World) -> None:
    """Move ada and grace in."""
    _settle(world, "ada", "UTC", 0, _ADA)
    _settle(world, "grace", "Asia/Tokyo", 9, _GRACE)


def _settle(world: World, name: str, zone: str, hours: int, things: list[tuple[str, str, Json]]) -> None:
    at = world.now() - AGE
    account = world.add_user(name, zone=zone, hours=hours, joined=at)
    commands = [
        {"type": type_, "uuid": f"{name}-{number}", "temp_id": temp_id, "args": args}
        for number, (type_, temp_id, args) in enumerate(things)
    ]
    status = world.execute(account, commands, at=at).sync_status
    assert set(status.values()) == {"ok"}, status
    account.done.clear()


_ADA: list[tuple[str, str, Json]] = [
    ("label_add", "errand", {"name": "errand", "color": "lime_green"}),
    ("project_add", "home", {"name": "Home", "color": "berry_red", "is_favorite": True}),
    ("project_add", "engine", {"name": "Analytical Engine", "view_style": "board"}),
    ("section_add", "cards", {"name": "Cards", "project_id": "engine"}),
    ("item_add", "milk", {"content": "Buy milk", "labels": ["errand"], "due": {"string": "today"}}),
    ("item_add", "plants", {"content": "Water the plants", "project_id": "home", "due": {"string": "every day at 09:00"}}),
    ("item_add", "note-g", {"content": "Write Note G", "project_id": "engine", "section_id": "cards", "priority": 4}),
    ("item_add", "table", {"content": "Check the table of Bernoulli numbers", "parent_id": "note-g"}),
    ("item_add", "old", {"content": "Read Menabrea's memoir", "project_id": "engine"}),
    ("note_add", "remark", {"item_id": "note-g", "content": "Variables V21 to V24 hold the results."}),
    ("reminder_add", "bell", {"item_id": "plants", "type": "relative", "minute_offset": 30}),
    ("item_complete", "done", {"id": "old"}),
]

_GRACE: list[tuple[str, str, Json]] = [
    ("label_add", "navy", {"name": "navy"}),
    ("project_add", "compiler", {"name": "Compiler"}),
    ("item_add", "moth", {"content": "Find the bug in relay 70", "project_id": "compiler", "priority": 3}),
    ("item_add", "talk", {"content": "Bring the nanoseconds", "labels": ["navy"], "due": {"string": "every monday at 10:00"}}),
]
