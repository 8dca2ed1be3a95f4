"""The syntax tree of an intent file: what was written, and where, before any name has been looked up.

Rules: every node has a position; nothing is normalised except white space; a tree of this form may still name tables
that do not exist.
Not here: reading text (parse.py), meaning (check.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from spangate.model.access import Operation
from spangate.model.google import GoogleFederation, Impersonation
from spangate.model.policy import LIVE, Position
from spangate.model.schema import Dialect
from spangate.model.unix import UnixSelectors


@dataclass(frozen=True, slots=True)
class Word:
    """A word of the file and where its first character stands."""

    text: str
    position: Position

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class DatabaseEntry:
    """`shop: {instance: main, database: shop, schema: schema.sql}`; `schema` is a path relative to this file or `live`.

    `project` carries the position of `alias` where the file leaves it to the default, and so does `dialect_position`.
    """

    alias: Word
    project: Word
    instance: Word
    database: Word
    schema: Word
    dialect: Dialect
    dialect_position: Position
    keep_tags: bool
    secure_context: bool

    @property
    def position(self) -> Position:
        """Where the alias stands."""
        return self.alias.position

    @property
    def live(self) -> bool:
        """The schema is asked of the database."""
        return self.schema.text == LIVE


@dataclass(frozen=True, slots=True)
class TrustDomainEntry:
    """`cluster.local: {bundle: istio/root-cert.pem, aliases: [old.example]}`; files are relative to this file."""

    name: Word
    bundles: tuple[Word, ...]
    aliases: tuple[Word, ...]

    @property
    def position(self) -> Position:
        """Where the name stands."""
        return self.name.position


@dataclass(frozen=True, slots=True)
class ImpersonateEntry:
    """`{service_account: ..., delegates: [...], lifetime: 10m}`; `position` is that of the mapping."""

    impersonation: Impersonation
    position: Position


@dataclass(frozen=True, slots=True)
class GoogleEntry:
    """`google: {...}`: names have no meaning here that could be looked up, so these are the model's values."""

    federation: GoogleFederation
    position: Position


@dataclass(frozen=True, slots=True)
class UnixEntry:
    """`unix: {user: shop, executable: /usr/bin/checkout}`: texts that can be what they stand for."""

    position: Position
    user: Word | None
    group: Word | None
    executable: Word | None

    @property
    def selectors(self) -> UnixSelectors:
        """What a process must be."""
        user, group, executable = (word.text if word else None for word in (self.user, self.group, self.executable))
        return UnixSelectors(user, group, executable)


@dataclass(frozen=True, slots=True)
class IdentityEntry:
    """`checkout: {workload: shop/checkout}`. `kind` is the key it was written under: `workload` or `agent`.

    `trust_domain` is None where the file leaves it to the default, its own.
    """

    name: Word
    kind: Word
    namespace: Word
    service_account: Word
    trust_domain: Word | None = None
    unix: UnixEntry | None = None
    impersonate: ImpersonateEntry | None = None

    @property
    def position(self) -> Position:
        """Where the name stands."""
        return self.name.position


@dataclass(frozen=True, slots=True)
class GrantEntry:
    """`Customers(CustomerId, Name)` under `read`, for one operation: `write` gives three.

    `key` is the word it stands under; `table` a name or a pattern, empty for a switch. `columns` is None where none
    were written: all columns; `excepted` are the columns of `(* except A, B)`. `until` is in UTC.
    """

    key: str
    operation: Operation
    table: Word
    columns: tuple[Word, ...] | None
    excepted: tuple[Word, ...] = ()
    until: datetime | None = None
    deny: bool = False

    @property
    def position(self) -> Position:
        """Where the table's name stands, or the value of a switch."""
        return self.table.position

    @property
    def is_pattern(self) -> bool:
        """The table's name is a pattern."""
        return "*" in self.table.text

    def __str__(self) -> str:
        if self.excepted:
            return f"{self.table}(* except {', '.join(c.text for c in self.excepted)})"
        return self.table.text if self.columns is None else f"{self.table}({', '.join(c.text for c in self.columns)})"


@dataclass(frozen=True, slots=True)
class AccessEntry:
    """All grants of one identity, or of one role, in one database, as far as they stand in one place of the file."""

    holder: Word
    database: Word
    grants: tuple[GrantEntry, ...]

    @property
    def position(self) -> Position:
        """Where the database's alias stands."""
        return self.database.position


@dataclass(frozen=True, slots=True)
class RoleUse:
    """`clerk` in `checkout: {roles: [clerk]}`. `until` is in UTC."""

    identity: Word
    role: Word
    until: datetime | None


@dataclass(frozen=True, slots=True)
class Intent:
    """A whole file, in its own order. Keys are distinct; names under `roles` and `access` may not exist."""

    position: Position
    trust_domain: Word
    databases: tuple[DatabaseEntry, ...]
    identities: tuple[IdentityEntry, ...]
    roles: tuple[Word, ...]
    role_access: tuple[AccessEntry, ...]
    role_uses: tuple[RoleUse, ...]
    access: tuple[AccessEntry, ...]
    trust_domains: tuple[TrustDomainEntry, ...] = ()
    google: GoogleEntry | None = None

    @property
    def file(self) -> str:
        """The file's name, as it stands in every position."""
        return self.position.file
