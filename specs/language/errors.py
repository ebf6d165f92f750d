"""The exceptions of run-spec.

    RunSpecError                 anything a user can mend; printed without a traceback
    ├── CommandError       2     the command line, or an environment variable
    ├── SpecError          2     the text, the schema or the meaning of a spec (holds every problem found)
    ├── ModelError         3     the model: its name, files, family, tokenizer, self-tests
    │   └── NoNetwork      3     a download was needed and nothing answered
    └── RunError           4     a run that could not go on
        └── DiskFull       5     no room for what had to be written

Other exit codes: 0 done, 1 a bug (with its traceback), 130 interrupted (the partial run is kept).
Exceptions carry fields; text is made in ``__str__``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

__all__ = [
    "CommandError",
    "DiskFull",
    "ModelError",
    "NoNetwork",
    "Origin",
    "Problem",
    "RunError",
    "RunSpecError",
    "SpecError",
]


@dataclass(frozen=True, order=True)
class Origin:
    """A place in a text: file as the user named it, line and column from 1, and the length to underline."""

    file: str
    line: int = 0
    column: int = 0
    length: int = 1
    text: str = field(default="", compare=False)
    """The line as written, for printing."""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


@dataclass(frozen=True)
class Problem:
    """One mistake in a spec: where, on which dotted path, and what to do about it.

    ``level`` is the stage that found it; ``severity`` warnings do not stop a run.
    """

    message: str
    path: str = ""
    origin: Origin | None = None
    level: Literal["text", "schema", "meaning", "model"] = "schema"
    severity: Literal["error", "warning"] = "error"

    def headline(self) -> str:
        """Give ``file:line:col: path: message``, leaving out what is not known."""
        parts = [str(self.origin) if self.origin else "", self.path]
        return "".join(f"{part}: " for part in parts if part) + self.message

    def excerpt(self) -> str:
        """Give the line of the file and carets under the place, or nothing when there is no line."""
        if self.origin is None or not self.origin.line or not self.origin.text:
            return ""
        text = self.origin.text.rstrip("\n")
        before = "".join(c if c == "\t" else " " * display_width(c) for c in text[: self.origin.column - 1])
        marked = text[self.origin.column - 1 : self.origin.column - 1 + max(1, self.origin.length)]
        return f"  {text}\n  {before}{'^' * max(1, display_width(marked))}"

    def __str__(self) -> str:
        excerpt = self.excerpt()
        return self.headline() + (f"\n{excerpt}" if excerpt else "")


def display_width(text: str) -> int:
    """Count terminal cells: wide East Asian characters take two, combining marks none."""
    import unicodedata

    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


class RunSpecError(Exception):
    """A failure the user can mend: its cause, and what to do about it."""

    exit_code: ClassVar[int] = 4

    def __init__(self, cause: str, *, remedy: str = "") -> None:
        super().__init__(cause, remedy)
        self.cause = cause
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.cause}\n  {self.remedy}" if self.remedy else self.cause


class CommandError(RunSpecError):
    """A command line or an environment variable that asks for what cannot be; nothing was done."""

    exit_code = 2


class SpecError(RunSpecError):
    """A spec that cannot be run, with every problem found in it."""

    exit_code = 2

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(f"{len(problems)} problems")
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return "\n\n".join(str(problem) for problem in self.problems)


class ModelError(RunSpecError):
    """A model that cannot be found, loaded, or trusted."""

    exit_code = 3


class NoNetwork(ModelError):
    """A download was needed and nothing answered."""


class RunError(RunSpecError):
    """A run that could not go on; what it had computed is kept."""

    exit_code = 4


class DiskFull(RunError):
    """No room for what had to be written."""

    exit_code = 5
