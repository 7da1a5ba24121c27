"""What is wrong with a configuration: all of it at once, each with its place and a remedy."""

import msgspec


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to put right. None of these texts repeats a value: somebody may have pasted a key in the wrong line."""

    place: str  #: the file and the setting in it, or the variable
    sentence: str
    remedy: str

    def __str__(self) -> str:
        text = f"{self.place}: {self.sentence} {self.remedy}"
        # Names of files and variables are any bytes, and a terminal would obey some of them.
        return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


class ConfigError(Exception):
    """The settings cannot be used: show the problems to the operator and do not start."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        if len(self.problems) == 1:
            return str(self.problems[0])
        return "\n".join([f"The settings have {len(self.problems)} problems:", *(f"- {problem}" for problem in self.problems)])
