"""The decision service: identify -> decide -> record.

Rules:
- A decision is recorded before it is given: if it cannot be recorded, it is not made (the caller gets an error, and the
  gateway refuses).
- Standing comes first: whoever has no grant in a database learns nothing about it, and costs no analysis.
- One answer rests on one policy and one moment: a policy or clock that changes meanwhile has no part in it.
Not here: HTTP (adapters/checkpoint_door.py), the analysers (adapters/analysers.py), files (adapters/).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from spangate.checkpoint.asked import Asked, SharedStatements
from spangate.checkpoint.looks import Looks
from spangate.decision import decide, decision_id, denial_message, refuse, standing
from spangate.model.access import Access
from spangate.model.database import DatabasePath
from spangate.model.decision import Decision, Reason
from spangate.model.identity import BadSpiffeId, SpiffeId
from spangate.model.policy import LIVE, Policy, PolicyDatabase, role_of
from spangate.model.schema import Schema
from spangate.model.sqltype import SqlType
from spangate.rpc.accesses import UnknownName, accesses_of
from spangate.rpc.shape import BadShape, Shape, decode_shape
from spangate.sql.ddl_roles import manages_roles
from spangate.sql.googlesql import UnreadableStatement

# A transaction tag has at most 50 characters (https://cloud.google.com/spanner/docs/introspection/
# troubleshooting-with-tags); this one has 29.
TAG_PREFIX = "sg"


class Statements(Protocol):
    """Reads statements. Raises UnreadableStatement, or TryAgain when it has too much to do."""

    def accesses(self, schema: Schema, sql: str, param_types: Mapping[str, SqlType]) -> tuple[Access, ...]:
        """What `sql` does; see sql.googlesql.Analyzer.accesses."""
        ...


class Clock(Protocol):
    """Tells the time."""

    def now(self) -> datetime:
        """Now, aware, in UTC."""
        ...


# What a request meets that names what a schema does not have, or has in another form.
_SEEMS_NEWER = frozenset({Reason.UNKNOWN_TABLE, Reason.UNREADABLE_STATEMENT})


class RolesAreSpangates(Exception):
    """The request changes the database's roles or their grants, which only Spangate does."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the gateway is told. `epoch` is what the decision holds for (Policy.epoch).

    Of an allow: `role` and `owner` (the identity's key) are forced on sessions; `tag` on transactions, followed by the
    application's own with `keep_tags`; `context`, if there is one, goes into Spanner's secure context. Without
    `remember` the gateway must ask again each time.
    """

    decision: Decision
    epoch: str
    role: str
    tag: str
    message: str
    owner: str = ""
    keep_tags: bool = False
    context: str = ""
    remember: bool = True


class Checkpoint:
    """Decides under the policy of the moment; `replace` puts another in force. Any thread may call."""

    def __init__(
        self,
        policy: Policy,
        statements: SharedStatements,
        record: Callable[[Decision], None],
        clock: Clock,
        look: Callable[[DatabasePath], bool] | None = None,
        schema_changes: Callable[[], None] | None = None,
    ) -> None:
        """`look` asks a database with a live schema for it, calls `replace` on a change, and says whether it asked.

        `schema_changes` is told when a change of a live schema was let through.
        """
        self._look = look
        self._schema_changes = schema_changes
        self._looks = Looks()
        policy.prepare()
        self._policy = policy
        self._statements = statements
        self._record = record
        self._clock = clock

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        return self._policy

    @property
    def epoch(self) -> str:
        """What decisions made now hold for: changes with the policy, and whenever something in it ends."""
        return self._policy.epoch(self._clock.now())

    @property
    def aliases(self) -> str:
        """`<alias>=<trust domain>` joined by `,`: under which names of trust domains the same workloads are known."""
        return ",".join(f"{alias}={domain}" for alias, domain in sorted(self._policy.domain_of_alias.items()))

    def replace(self, policy: Policy) -> None:
        """From now on, `policy`."""
        policy.prepare()
        self._policy = policy

    def answer(self, identity: str, shape: bytes) -> Answer:
        """The decision about a request of `shape` by the verified `identity`, recorded.

        Raises TryAgain when there is too much to do, and what `record` raises.
        """
        policy, now = self._policy, self._clock.now()
        statements = Asked(self._statements, identity)
        decision = judge(policy, statements, identity, shape, now)
        if self._looked_again(policy, decision, now):
            # Whatever came of it: the request is judged by what is known now.
            policy = self._policy
            decision = judge(policy, statements, identity, shape, now)
        self._record(decision)
        epoch = policy.epoch(now)
        if not decision.allowed or decision.name is None or decision.database is None:
            message = denial_message(decision)
            # What a live schema does not have may be there the next moment.
            remember = statements.remember and not self._seems_newer(policy, decision)
            return Answer(decision, epoch, role="", tag="", message=message, remember=remember)
        spiffe_id = SpiffeId.parse(decision.identity)
        database = policy.databases[decision.database]
        if decision.rpc == "UpdateDatabaseDdl" and database.schema_file == LIVE and self._schema_changes is not None:
            self._schema_changes()
        return Answer(
            decision,
            epoch,
            role=role_of(decision.name),
            tag=transaction_tag(spiffe_id, policy.version),
            message="",
            owner=spiffe_id.key,
            keep_tags=database.keep_tags,
            context=decision.identity if database.secure_context else "",
            remember=statements.remember,
        )

    def _looked_again(self, policy: Policy, decision: Decision, now: datetime) -> bool:
        """Whether the database was asked for its schema, since the request seems to know a newer one."""
        if self._look is None or not self._seems_newer(policy, decision):
            return False
        if not self._looks.take(decision.name or "", now):
            return False
        return self._look(policy.databases[decision.database or ""].path)

    @staticmethod
    def _seems_newer(policy: Policy, decision: Decision) -> bool:
        """Whether a denial rests on a name that a live schema did not have when it was asked last."""
        database = policy.databases.get(decision.database or "")
        return database is not None and database.schema_file == LIVE and decision.reason in _SEEMS_NEWER


def transaction_tag(spiffe_id: SpiffeId, policy_version: str) -> str:
    """`sg:<identity key>:<policy version>`: what Spanner's statistics and change streams show of a write."""
    return f"{TAG_PREFIX}:{spiffe_id.key}:{policy_version}"


def judge(policy: Policy, statements: Statements, identity: str, encoded_shape: bytes, now: datetime) -> Decision:
    """Pure but for `statements`: the same arguments give the same decision."""
    try:
        presented = SpiffeId.parse(identity)
    except BadSpiffeId as error:
        return _nobody(policy, now, identity, encoded_shape, f"the certificate's URI name is no SPIFFE ID: {error}")
    # Of what is presented: an alias' decision is a record of its own.
    number = decision_id(policy.epoch(now), presented, encoded_shape)
    spiffe_id = policy.canonical_id(presented)
    decision = _judged(policy, statements, spiffe_id, encoded_shape, now, number)
    return decision if spiffe_id == presented else replace(decision, presented=identity)


def _judged(
    policy: Policy, statements: Statements, spiffe_id: SpiffeId, encoded_shape: bytes, now: datetime, number: str
) -> Decision:
    """As `judge`, for the identity itself."""
    try:
        shape = decode_shape(encoded_shape)
    except BadShape as error:
        # The filter read a request that this does not: they disagree about its meaning.
        return refuse(policy, spiffe_id, "unknown", None, Reason.MALFORMED_REQUEST, str(error), number)
    denied = standing(policy, spiffe_id, shape.method, shape.database, number, now)
    if denied is not None:
        return denied
    database = policy.database_at[shape.database]
    try:
        accesses = _accesses(shape, database, statements)
    except RolesAreSpangates:
        reason, detail = Reason.UNSUPPORTED_FEATURE, "roles and their grants are made from the intent, not by clients"
    except UnknownName as error:
        reason, detail = Reason.UNKNOWN_TABLE, str(error)
    except UnreadableStatement as error:
        reason, detail = Reason.UNREADABLE_STATEMENT, error.message
    else:
        return decide(policy, spiffe_id, shape.method, shape.database, accesses, number, now)
    return refuse(policy, spiffe_id, shape.method, shape.database, reason, detail, number)


def _accesses(shape: Shape, database: PolicyDatabase, statements: Statements) -> tuple[Access, ...]:
    schema = database.schema
    if any(manages_roles(statement, schema.dialect) for statement in shape.ddl):
        raise RolesAreSpangates
    found: list[Access] = []
    for statement in shape.statements:
        found += statements.accesses(schema, statement.sql, statement.param_types)
    return accesses_of(shape, found, schema)


def _nobody(policy: Policy, now: datetime, identity: str, encoded_shape: bytes, detail: str) -> Decision:
    return Decision(
        id=decision_id(policy.epoch(now), identity, encoded_shape),
        allowed=False,
        reason=Reason.UNTRUSTED_CERTIFICATE,
        identity=identity,
        name=None,
        rpc="unknown",
        database=None,
        accesses=(),
        missing=(),
        grants=(),
        policy=policy.version,
        detail=detail,
    )
