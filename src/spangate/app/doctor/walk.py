"""Links, and the walk along them: each is fine, broken, or not looked at and why.

Rules: a link is looked at only when those it needs are fine; what cannot be checked is said, never taken for fine.
Not here: the links themselves (chain.py), how they are shown (cli/doctor.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from spangate.errors import SpangateError


class State(StrEnum):
    """What was found of a link."""

    OK = "ok"
    PROBLEM = "problem"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: the link, and a sentence; for a problem also what mends it."""

    link: str
    state: State
    sentence: str
    fix: str = ""


class Problem(Exception):
    """The link is broken."""

    def __init__(self, sentence: str, fix: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.fix = fix


class NotChecked(Exception):
    """The link cannot be looked at here, or there is none."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


@dataclass(frozen=True, slots=True)
class Link:
    """`look` gives a sentence if all is well; it raises Problem, NotChecked, or SpangateError, which is a problem.

    It is asked if all that it `needs` are fine and none of `unless_broken` is a problem.
    """

    name: str
    needs: Sequence[str]
    look: Callable[[], str]
    unless_broken: Sequence[str] = ()


def walk(links: Sequence[Link]) -> Iterator[Finding]:
    """A finding for each link, in their order, as soon as it is there."""
    found: dict[str, Finding] = {}
    for link in links:
        found[link.name] = _look(link, found)
        yield found[link.name]


def fine(findings: Sequence[Finding]) -> bool:
    """Whether nothing is broken."""
    return all(finding.state is not State.PROBLEM for finding in findings)


def _look(link: Link, found: dict[str, Finding]) -> Finding:
    for need in link.needs:
        if found[need].state is not State.OK:
            return Finding(link.name, State.SKIPPED, _why(need, found[need]))
    for other in link.unless_broken:
        if found[other].state is State.PROBLEM:
            return Finding(link.name, State.SKIPPED, _why(other, found[other]))
    try:
        return Finding(link.name, State.OK, link.look())
    except Problem as problem:
        return Finding(link.name, State.PROBLEM, problem.sentence, problem.fix)
    except NotChecked as reason:
        return Finding(link.name, State.SKIPPED, reason.why)
    except SpangateError as error:
        return Finding(link.name, State.PROBLEM, error.message, error.help or "")


def _why(need: str, finding: Finding) -> str:
    if finding.state is State.PROBLEM:
        return f"not checked: mend `{need}` first"
    # The reason travels along the chain: what is before the missing link is what has to be mended.
    return finding.sentence if finding.sentence.startswith("not checked") else f"not checked: {finding.sentence}"
