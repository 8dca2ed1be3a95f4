"""The checked policy: an intent whose every name has been found in its schema.

Only intent/ makes one; everything downstream (decision/, compiler/, checkpoint/) takes it as true.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property

from spangate.model.access import Operation
from spangate.model.database import DatabasePath
from spangate.model.google import GoogleFederation, Impersonation
from spangate.model.identity import SpiffeId
from spangate.model.schema import Schema

POLICY_VERSION_HEX_DIGITS = 12
# `schema: live`: the schema is asked of the database.
LIVE = "live"


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in a text file; line and column count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Grant:
    """One permission or exception: `identity` may, or with `deny` may not, do `operation` on these columns of `table`
    in `database` (an alias).

    `columns` is always written out in full, spelled as in the schema; empty for delete, for what has no columns (views,
    sequences, ...) and for operations on the database as a whole, whose `table` is empty too. `every` says that columns
    which the schema does not know yet belong to it: the grant names the table as such, or all columns but some.
    It holds before `until` (an aware datetime in UTC), or without end. `role` is the role of the intent it came by.
    `text` is the grant as the author wrote it, `Customers(CustomerId, Name)`, and `position` where.
    """

    identity: str
    database: str
    operation: Operation
    table: str
    columns: frozenset[str]
    every: bool = False
    deny: bool = False
    until: datetime | None = None
    role: str | None = None
    text: str = field(compare=False, default="")
    position: Position = field(compare=False, default=Position("", 0, 0))

    def stands(self, now: datetime) -> bool:
        """Whether it holds at `now`, an aware datetime: `until` itself is outside."""
        return self.until is None or now < self.until

    def __str__(self) -> str:
        verb = "may not" if self.deny else "may"
        what = f"{self.operation} {self.text}" if self.text else self.operation.value
        return f"{self.identity} {verb} {what} in {self.database} ({self.position})"


@dataclass(frozen=True, slots=True)
class PolicyDatabase:
    """A database of the intent. `alias` is its name in the intent.

    `schema_file` is `LIVE` where the schema comes from the database itself. With `keep_tags` the application's own
    transaction tag is kept behind Spangate's; with `secure_context` every request says in Spanner's secure context
    which identity it is from.
    """

    alias: str
    path: DatabasePath
    schema: Schema
    schema_file: str
    keep_tags: bool = False
    secure_context: bool = False


@dataclass(frozen=True, slots=True)
class TrustDomain:
    """A trust domain whose workloads come with certificates of another authority than Spangate's, a mesh's.

    `bundles` are files with the roots, relative to the intent; empty only for the policy's own trust domain. Under the
    `aliases` the same workloads are known by older or other names.
    """

    name: str
    bundles: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The name, and its aliases: whatever its roots may sign."""
        return (self.name, *self.aliases)


@dataclass(frozen=True)
class Policy:
    """A checked policy. `version` is the first 12 hex digits of SHA-256 over `canonical`.

    `google` says where identities get their access tokens, None if nowhere; `impersonations`, by identity name, are
    those that replace its own.
    """

    trust_domain: str
    databases: Mapping[str, PolicyDatabase]
    identities: Mapping[str, SpiffeId]
    grants: tuple[Grant, ...]
    canonical: str
    version: str
    google: GoogleFederation | None = None
    impersonations: Mapping[str, Impersonation] = field(default_factory=dict)
    trust_domains: tuple[TrustDomain, ...] = ()

    @cached_property
    def domain_of_alias(self) -> Mapping[str, str]:
        """Trust domains by their aliases; the check guarantees that no name stands for two."""
        return {alias: domain.name for domain in self.trust_domains for alias in domain.aliases}

    def canonical_id(self, presented: SpiffeId) -> SpiffeId:
        """The identity that a certificate's name stands for: of an alias, the same workload in the trust domain."""
        domain = self.domain_of_alias.get(presented.trust_domain)
        return presented if domain is None else SpiffeId(domain, presented.segments)

    @cached_property
    def name_of(self) -> Mapping[SpiffeId, str]:
        """Identity names by SPIFFE ID; the check guarantees that no two names share one."""
        return {spiffe_id: name for name, spiffe_id in self.identities.items()}

    @cached_property
    def federations(self) -> Mapping[SpiffeId, GoogleFederation]:
        """How each identity gets its access tokens; empty where none does."""
        google = self.google
        if google is None:
            return {}
        return {
            spiffe_id: replace(google, impersonation=self.impersonations.get(name, google.impersonation))
            for name, spiffe_id in self.identities.items()
        }

    @cached_property
    def database_at(self) -> Mapping[DatabasePath, PolicyDatabase]:
        """Databases by resource name; the check guarantees that no two aliases share one."""
        return {database.path: database for database in self.databases.values()}

    @cached_property
    def grants_of(self) -> Mapping[tuple[str, str], tuple[Grant, ...]]:
        """Grants and exceptions by (identity name, database alias): a decision never walks another identity's."""
        found: dict[tuple[str, str], list[Grant]] = {}
        for grant in self.grants:
            found.setdefault((grant.identity, grant.database), []).append(grant)
        return {key: tuple(grants) for key, grants in found.items()}

    @cached_property
    def grants_on(self) -> Mapping[GrantKey, tuple[Grant, ...]]:
        """Grants by (identity name, database alias, operation, table): all that one access can be covered by.

        Partitioned DML begins before its table is known: under the table "" stand the grants on any table.
        """
        return _by_key(self.grants, deny=False)

    @cached_property
    def exceptions_on(self) -> Mapping[GrantKey, tuple[Grant, ...]]:
        """Exceptions by (identity name, database alias, operation, table): all that one access can be denied by."""
        return _by_key(self.grants, deny=True)

    @cached_property
    def standing_until(self) -> Mapping[tuple[str, str], datetime | None]:
        """When the last grant (no exception) of (identity name, database alias) ends; None for never."""
        found: dict[tuple[str, str], datetime | None] = {}
        for grant in self.grants:
            if not grant.deny:
                key = (grant.identity, grant.database)
                found[key] = later(found[key], grant.until) if key in found else grant.until
        return found

    @cached_property
    def ends(self) -> tuple[datetime, ...]:
        """Every moment at which a grant or exception ends, each once, in order."""
        return tuple(sorted({grant.until for grant in self.grants if grant.until is not None}))

    def prepare(self) -> None:
        """Make every index now, so that no request waits for it: seconds with hundreds of thousands of grants."""
        _ = (self.name_of, self.database_at, self.grants_of, self.grants_on, self.exceptions_on)
        _ = (self.standing_until, self.ends, self.domain_of_alias)

    def epoch(self, now: datetime) -> str:
        """What decisions hold for: the version, and `.<how many ends have passed>` where anything ends at all.

        Two moments of one epoch decide every request alike, under one version.
        """
        return f"{self.version}.{bisect_right(self.ends, now)}" if self.ends else self.version


# Identity name, database alias, operation, table.
GrantKey = tuple[str, str, Operation, str]


def later(one: datetime | None, other: datetime | None) -> datetime | None:
    """The later of two ends; None is no end."""
    return None if one is None or other is None else max(one, other)


def moment_text(moment: datetime) -> str:
    """`2026-12-31T18:00Z`: seconds and fractions only where there are some. `moment` is aware, in UTC."""
    text = moment.strftime("%Y-%m-%dT%H:%M").rjust(16, "0")
    if moment.microsecond:
        text += f":{moment.second:02}.{moment.microsecond:06}".rstrip("0")
    elif moment.second:
        text += f":{moment.second:02}"
    return text + "Z"


def _by_key(grants: tuple[Grant, ...], *, deny: bool) -> dict[GrantKey, tuple[Grant, ...]]:
    found: dict[GrantKey, list[Grant]] = {}
    for grant in grants:
        if grant.deny == deny:
            found.setdefault((grant.identity, grant.database, grant.operation, grant.table), []).append(grant)
            if grant.operation is Operation.PARTITIONED_DML and not deny:
                found.setdefault((grant.identity, grant.database, grant.operation, ""), []).append(grant)
    return {key: tuple(listed) for key, listed in found.items()}


def role_of(identity: str) -> str:
    """The Spanner database role for an identity name of the intent: `[a-z][a-z0-9_]*`, at most 63 characters."""
    return "sg_" + identity.replace("-", "_")
