"""The statements of one request, read for one identity.

Rules: an identity's statements wait behind its own, not behind everybody's; a request of which one statement is not
worth keeping is not worth keeping itself.
Not here: how they are read (adapters/analysers.py), what follows (service.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from spangate.model.access import Access
from spangate.model.schema import Schema
from spangate.model.sqltype import SqlType


class SharedStatements(Protocol):
    """Reads statements for everybody. Raises UnreadableStatement, or TryAgain when it has too much to do."""

    def accesses(
        self, schema: Schema, sql: str, param_types: Mapping[str, SqlType], *, identity: str
    ) -> tuple[Access, ...]:
        """What `sql` does; see sql.googlesql.Analyzer.accesses. `identity` is who asks: turns are taken by it."""
        ...

    def keeps(self, schema: Schema, sql: str, param_types: Mapping[str, SqlType]) -> bool:
        """Whether a statement that was just read is kept by itself.

        It is not if it is one of many that differ in their literals only.
        """
        ...


class Asked:
    """A `service.Statements` for one request."""

    def __init__(self, statements: SharedStatements, identity: str) -> None:
        self._statements = statements
        self._identity = identity
        # Whether the gateway may keep what is decided.
        self.remember = True

    def accesses(self, schema: Schema, sql: str, param_types: Mapping[str, SqlType]) -> tuple[Access, ...]:
        """See service.Statements."""
        found = self._statements.accesses(schema, sql, param_types, identity=self._identity)
        self.remember = self.remember and self._statements.keeps(schema, sql, param_types)
        return found
