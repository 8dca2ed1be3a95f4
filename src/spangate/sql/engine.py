"""What the SQL reader needs of ZetaSQL: one call, two ways to fail.

Rules: bytes in, bytes out, both messages of `zetasql.local_service`; so this package stays free of WebAssembly.
Not here: the engine itself (adapters/zetasql_engine.py), what is asked of it (googlesql.py).
"""

from __future__ import annotations

from typing import Protocol


class EngineFailure(Exception):
    """ZetaSQL looked at the request and answered with an error; the engine is as good as before.

    `message` is ZetaSQL's own sentence, with ` [at line:column]` at its end where it knows the place.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class EngineCrashed(Exception):
    """The engine broke off in the middle (a trap, a time limit, no memory): it is dead and must be replaced."""


class Engine(Protocol):
    """One instance of ZetaSQL; not thread safe."""

    def call(self, method: str, request: bytes) -> bytes:
        """The answer of the local service's `method` (`ZetaSqlLocalService_Analyze`, ...) to `request`.

        Raises EngineFailure or EngineCrashed.
        """
        ...
