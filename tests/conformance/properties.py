"""Names of properties of spec/decision.md, on the tests that show them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T", bound=Callable[..., object])


def shows(*names: str) -> Callable[[T], T]:
    """The test shows these properties. tests/docs/test_specification.py reads the names from the source."""

    def unchanged(test: T) -> T:
        return test

    assert names
    return unchanged
