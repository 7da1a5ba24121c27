"""What the hub says when a person's wish cannot be done as it stands."""

from __future__ import annotations


class Declined(Exception):
    """Something must be changed before it can be done: `code` for programs, a sentence, and the remedy.

    `scope` is what the person would have to allow, where that is all that is missing.
    """

    def __init__(self, code: str, message: str, remedy: str = "", *, scope: str = "") -> None:
        super().__init__(f"{message} {remedy}".strip())
        self.code = code
        self.message = message
        self.remedy = remedy
        self.scope = scope
