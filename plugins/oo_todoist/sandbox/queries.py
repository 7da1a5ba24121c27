"""Two small languages that people write: filters ("today & @errand") and quick add ("Buy milk tomorrow @errand p1").

Todoist's are larger. What is not read here is refused in a filter, and stays in the task's text in quick add.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Any

from oo_todoist.sandbox.account import Account
from oo_todoist.sandbox.dates import read_due
from oo_todoist.sandbox.refusals import Refusal, invalid

Json = dict[str, Any]
Finds = Callable[[Json], bool]

_WORD = re.compile(r"(?<!\S)(?P<sign>[@#/])(?P<name>\S+)")
_PRIORITY = re.compile(r"(?<!\S)p(?P<number>[1-4])(?!\S)")
_DEADLINE = re.compile(r"(?<!\S)\{(?P<day>\d{4}-\d{2}-\d{2})\}")
#: p1 in the apps is priority 4
_URGENCY = {"1": 4, "2": 3, "3": 2, "4": 1}


def today_of(account: Account, now: datetime) -> date:
    """Give the day that it is for a user."""
    zone = account.user["tz_info"]
    return (now + timedelta(hours=zone["hours"], minutes=zone["minutes"])).date()


def task_filter(query: str, account: Account, now: datetime) -> Finds:
    """Read a filter: terms joined by & and |, the former binding closer, each perhaps after a !"""
    ways = [[_term(term.strip(), account, today_of(account, now)) for term in way.split("&")] for way in query.split("|")]
    return lambda item: any(all(finds(item) for finds in way) for way in ways)


def quick_add(text: str, account: Account, now: datetime) -> Json:
    """Read what a person typed: the arguments of item_add."""
    text, _, description = text.partition(" // ")
    args: Json = {"labels": []}
    if description:
        args["description"] = description.strip()

    def place(found: re.Match[str]) -> str:
        kind = {"@": "labels", "#": "projects", "/": "sections"}[found["sign"]]
        if kind == "labels":
            args["labels"].append(found["name"])
            return ""
        known = next((body for body in account.active()[kind] if body["name"].lower() == found["name"].lower()), None)
        if known is None:
            return found[0]
        args["project_id" if kind == "projects" else "section_id"] = known["id"]
        return ""

    text = _WORD.sub(place, text)
    if priority := _PRIORITY.search(text):
        args["priority"] = _URGENCY[priority["number"]]
        text = text.replace(priority[0], "", 1)
    if deadline := _DEADLINE.search(text):
        args["deadline"] = {"date": deadline["day"]}
        text = text.replace(deadline[0], "", 1)
    words = text.split()
    for start in range(1, len(words)):  # the longest end of the text that is a date; the first word never is
        due = {"string": " ".join(words[start:])}
        try:
            if read_due(due, argument="text", today=today_of(account, now), zone="UTC") is not None:
                args["due"], words = due, words[:start]
                break
        except Refusal:
            continue
    return {"content": " ".join(words), **args}


def _term(term: str, account: Account, today: date) -> Finds:
    if term.startswith("!"):
        finds = _term(term[1:].strip(), account, today)
        return lambda item: not finds(item)
    name = term[1:].strip().lower()
    if term.startswith("@"):
        return lambda item: name in [label.lower() for label in item["labels"]]
    if term.startswith(("#", "/")):
        kind, member = ("projects", "project_id") if term.startswith("#") else ("sections", "section_id")
        ids = {body["id"] for body in account.every(kind) if body["name"].lower() == name}
        return lambda item: item[member] in ids
    if term.lower().startswith("search:"):
        text = term[len("search:") :].strip().lower()
        return lambda item: text in item["content"].lower()
    known = _TERMS.get(term.lower())
    if known is None:
        raise invalid("query", explanation=f"The sandbox does not read the filter {term!r}")
    return lambda item: known(item, today)


def _day(item: Json) -> str:
    """Give the day that a task is due, or nothing."""
    return str(item["due"]["date"])[:10] if item["due"] else ""


_TERMS: dict[str, Callable[[Json, date], bool]] = {
    "all": lambda item, today: True,
    "view all": lambda item, today: True,
    "today": lambda item, today: _day(item) == today.isoformat(),
    "tomorrow": lambda item, today: _day(item) == (today + timedelta(days=1)).isoformat(),
    "overdue": lambda item, today: "" < _day(item) < today.isoformat(),
    "no date": lambda item, today: not _day(item),
    "recurring": lambda item, today: bool(item["due"] and item["due"]["is_recurring"]),
    "subtask": lambda item, today: item["parent_id"] is not None,
    "p1": lambda item, today: item["priority"] == 4,
    "p2": lambda item, today: item["priority"] == 3,
    "p3": lambda item, today: item["priority"] == 2,
    "p4": lambda item, today: item["priority"] == 1,
}
