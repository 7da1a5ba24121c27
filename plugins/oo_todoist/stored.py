"""What is kept of a person's Todoist, and what for."""

from __future__ import annotations

from typing import Final

from oo_sdk import Stored

STORES: Final = (
    Stored(
        "task",
        "your tasks: what to do, by when, how much it matters, where it belongs, who is to do it, and whether it is done",
        "show, plan and follow them in the programs that you use",
        (
            "title",
            "description",
            "completed",
            "completed_at",
            "created_at",
            "due",
            "deadline",
            "priority",
            "labels",
            "project",
            "section",
            "parent",
            "assignee",
            "creator",
            "duration_minutes",
            "position",
            "url",
        ),
    ),
    Stored(
        "project",
        "your projects: their names, descriptions and order, and which are shared or put away",
        "show your tasks where they belong",
        ("title", "description", "parent", "color", "archived", "favorite", "shared", "inbox", "position", "created_at", "url"),
    ),
    Stored(
        "section",
        "the sections of your projects: their names and order",
        "show your tasks where they belong",
        ("title", "description", "project", "archived", "position", "created_at", "url"),
    ),
    Stored("label", "your labels: their names and colours", "find tasks by them", ("title", "color", "favorite", "position", "url")),
    Stored(
        "comment",
        "comments on your tasks and projects: the words, who wrote them and when, and the addresses of files that hang on them",
        "show what was said about a task",
        ("text", "task", "project", "author", "created_at", "attachments", "url"),
    ),
    Stored("reminder", "your reminders: when each rings, and for whom", "remind you in time", ("task", "due", "minutes_before", "person")),
)
