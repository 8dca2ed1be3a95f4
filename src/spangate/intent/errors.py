"""What is wrong with an intent file: several problems in one run, each with its place.

Rules: an IntentErrors holds at least one problem, in the order of the file; text from the file is shown in backticks,
shortened and with unprintable characters escaped, so that a message can neither flood nor steer a terminal.
Not here: the problems themselves (nodes.py and parse.py: form; check.py: meaning).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from spangate.errors import YourFault
from spangate.model.nearest import nearest
from spangate.model.policy import Position

# More are not read by anybody in one sitting, and looking for near names costs time for each.
PROBLEMS_MAX = 20
# Longer than any name that is allowed to stand in an intent file, short enough for one line.
SHOWN_CHARACTERS_MAX = 80
# Names to choose from are listed when they fit on a line.
CHOICES_MAX = 8


@dataclass(frozen=True, slots=True)
class IntentProblem:
    """One problem at one place. `str()` gives `file:line:col: message` and, where there is help, an indented line."""

    position: Position
    message: str
    help: str | None = None

    def __str__(self) -> str:
        return f"{self.position}: {self.message}" + (f"\n  help: {self.help}" if self.help else "")


class IntentErrors(YourFault):
    """Everything that is wrong with an intent file. `problems` are in the order of the file; `more` were left out."""

    def __init__(self, problems: Iterable[IntentProblem], more: int = 0) -> None:
        self.problems: tuple[IntentProblem, ...] = tuple(sorted(problems, key=lambda problem: problem.position))
        self.more = more
        if not self.problems:
            raise ValueError("an IntentErrors without a problem")
        lines = [str(problem) for problem in self.problems]
        if more:
            lines.append(f"and {more} more {'problem' if more == 1 else 'problems'}")
        super().__init__("\n".join(lines))


class Problems:
    """Collects problems while reading goes on; raises them all at the end."""

    def __init__(self) -> None:
        self._found: list[IntentProblem] = []
        self._more = 0

    def add(self, position: Position, message: str, help: str | None = None) -> None:  # noqa: A002 - the field's own word
        """Note one problem; beyond PROBLEMS_MAX only their number is kept."""
        if not self.full:
            self._found.append(IntentProblem(position, message, help))
        else:
            self._more += 1

    @property
    def full(self) -> bool:
        """Whether what is added from now on is only counted."""
        return len(self._found) >= PROBLEMS_MAX

    def suggest(self, name: str, existing: Sequence[str], kind: str) -> str | None:
        """A help line for a name that does not exist: the nearest one, or all there are if they are few."""
        if self.full:
            return None
        found = nearest(name, existing)
        if found is not None:
            return f"did you mean {shown(found)}?"
        if existing and len(existing) <= CHOICES_MAX:
            return f"{kind}: {listed(existing)}"
        return None

    def raise_if_any(self) -> None:
        """IntentErrors with everything noted so far, if anything was."""
        if self._found:
            raise IntentErrors(self._found, self._more)


def shown(text: str) -> str:
    """Text from the file, in backticks, on one line, at most SHOWN_CHARACTERS_MAX characters of it."""
    cut = text if len(text) <= SHOWN_CHARACTERS_MAX else text[: SHOWN_CHARACTERS_MAX - 3] + "..."
    printable = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in cut)
    return f"`{printable}`"


def listed(names: Iterable[str]) -> str:
    """Names in backticks, separated by commas."""
    return ", ".join(shown(name) for name in names)
