"""The properties of the decision, on the reference; and the evaluator and the filter against it, on what is made up.

Statements are written together with the accesses that they make, so that nobody has to analyse them to judge.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from random import Random
from typing import Any

import pytest
from google.cloud.spanner_v1 import types as v1
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conformance import judging, seals, wire, world
from conformance.engines.evaluator import Evaluator, shape_of
from conformance.engines.lua import Lua
from conformance.properties import shows
from conformance.world import NOW, Access, Plain
from fakes.checkpoint import FakeCheckpoint
from fakes.envoy import Tls, Worker
from fakes.reference import reference
from fakes.spanner_oracle import comparable
from fuzz import mutate
from fuzz.oracle import Broken, Fuzz
from spangate.adapters.analysers import AnalyserPool
from spangate.adapters.zetasql_engine import precompile
from spangate.rpc.shape import BadShape, decode_shape

TABLES: dict[str, Any] = world.POLICY["databases"]["shop"]["schema"]["tables"]
WHO = ("clerk", "reader")
V1 = "/google.spanner.v1.Spanner/"
ON_TABLES = ("read", "insert", "update", "delete", "partitioned_dml")
ON_DATABASE = ("schema", "ddl", "exclude_from_change_streams")
HOUR = timedelta(hours=1)
# The rest of a second matters to nobody but the rule.
MOMENT = timedelta(microseconds=1)


# Policies and accesses ----------------------------------------------------------------------------------------------


@st.composite
def grants(draw: st.DrawFn) -> Plain:
    operation = draw(st.sampled_from((*ON_TABLES, *ON_TABLES, *ON_DATABASE)))
    table = draw(st.sampled_from(sorted(TABLES))) if operation in ON_TABLES else ""
    columns: list[str] = []
    every = False
    if operation in ("read", "insert", "update"):
        every = draw(st.booleans())
        known = TABLES[table]["columns"]
        columns = sorted(draw(st.frozensets(st.sampled_from(known), min_size=1)))
        if every and draw(st.booleans()):
            columns = sorted(known)
    return {
        "identity": draw(st.sampled_from(WHO)),
        "database": draw(st.sampled_from(("shop", "shop", "shop", "logs"))),
        "operation": operation,
        "table": table,
        "columns": columns,
        "every": every,
        "deny": draw(st.sampled_from((False, False, False, False, True))),
        "until": draw(st.sampled_from((None, None, None, NOW - HOUR, NOW, NOW + MOMENT, NOW + HOUR))),
    }


@st.composite
def accesses(draw: st.DrawFn) -> Any:
    grant = draw(grants())
    columns = (
        draw(st.frozensets(st.sampled_from(TABLES[grant["table"]]["columns"]))) if grant["columns"] else frozenset()
    )
    every = bool(grant["columns"]) and draw(st.sampled_from((False, False, True)))
    return Access(grant["operation"], grant["table"], columns, every)


RULES = settings(max_examples=60, deadline=None)

Held = st.lists(grants(), max_size=12)
Wanted = st.lists(accesses(), max_size=4)


def standing(held: list[Plain], at: Any = NOW) -> list[Any]:
    return list(reference.standing_grants({"grants": held}, "clerk", "shop", at))


def allowed(held: list[Plain], wanted: list[Any]) -> bool:
    return bool(reference.decide(standing(held), wanted).allowed)


@shows("adding-never-denies", "exceptions-never-allow")
@RULES
@given(Held, Wanted, grants())
def test_a_grant_more_never_denies_and_an_exception_more_never_allows(
    held: list[Plain], wanted: list[Any], more: Plain
) -> None:
    before, after = allowed(held, wanted), allowed([*held, more], wanted)
    assert after <= before if more["deny"] else after >= before


@shows("removing-never-allows")
@RULES
@given(Held, Wanted, st.data())
def test_a_grant_less_never_allows(held: list[Plain], wanted: list[Any], data: st.DataObject) -> None:
    left = [grant for grant in held if grant["deny"] or data.draw(st.booleans())]
    assert allowed(left, wanted) <= allowed(held, wanted)


@shows("asking-more-never-allows", "all-or-nothing")
@RULES
@given(Held, Wanted, accesses())
def test_who_asks_for_more_is_not_allowed_more(held: list[Plain], wanted: list[Any], more: Any) -> None:
    assert allowed(held, [*wanted, more]) <= allowed(held, wanted)


@shows("order-free")
@RULES
@given(Held, Wanted, st.randoms(use_true_random=False))
def test_order_never_matters(held: list[Plain], wanted: list[Any], random: Random) -> None:
    shuffled = random.sample(held, len(held)), random.sample([*wanted, *wanted], 2 * len(wanted))
    one, other = reference.decide(standing(held), wanted), reference.decide(standing(shuffled[0]), shuffled[1])
    assert (one.allowed, one.reason, one.missing, one.accesses) == (
        other.allowed,
        other.reason,
        other.missing,
        other.accesses,
    )


@shows("identity-apart", "database-apart")
@RULES
@given(Held, Wanted)
def test_grants_of_others_and_elsewhere_change_nothing(held: list[Plain], wanted: list[Any]) -> None:
    own = [one for one in held if one["identity"] == "clerk" and one["database"] == "shop"]
    assert reference.decide(standing(held), wanted) == reference.decide(standing(own), wanted)


@shows("until-exclusive")
@RULES
@given(grants())
def test_a_grant_holds_before_its_end_and_not_at_it(grant: Plain) -> None:
    ends = {**grant, "identity": "clerk", "database": "shop", "until": NOW}
    assert standing([ends], NOW - MOMENT) == [ends]
    assert standing([ends], NOW) == []
    assert standing([ends], NOW + MOMENT) == []


@shows("default-deny", "exceptions-give-nothing")
@RULES
@given(Held, Wanted)
def test_exceptions_alone_allow_nothing(held: list[Plain], wanted: list[Any]) -> None:
    exceptions = [{**one, "deny": True} for one in held]
    assert not allowed(exceptions, wanted)


@shows("star-needs-every-column")
@RULES
@given(Held, st.sampled_from(sorted(TABLES)))
def test_a_star_is_given_by_every_column_known_and_unknown_only(held: list[Plain], table: str) -> None:
    star = [Access("read", table, frozenset(TABLES[table]["columns"]), True)]
    if allowed(held, star):
        given_every = [g for g in standing(held) if g["operation"] == "read" and g["table"] == table and g["every"]]
        assert given_every
        assert allowed(held, [Access("read", table, frozenset(TABLES[table]["columns"]))])


# Requests that are made up -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Request:
    """An RPC's path and message, and what its statements do."""

    path: str
    message: Any
    statements: dict[str, list[Any]]


class Writer:
    """Writes statements together with their accesses. `draw` chooses."""

    def __init__(self, draw: Any) -> None:
        self._one = lambda choices: draw(st.sampled_from(choices))
        self._some = lambda choices: sorted(draw(st.frozensets(st.sampled_from(choices), min_size=1, max_size=3)))

    def statement(self) -> tuple[str, list[Any]]:
        return {"select": self.select, "insert": self.insert, "update": self.update, "delete": self.delete}[
            self._one(("select", "select", "insert", "update", "delete"))
        ]()

    def select(self) -> tuple[str, list[Any]]:
        table = self._one(sorted(TABLES))
        columns, read = self._some(TABLES[table]["columns"]), set[str]()
        found: list[Any] = []
        kind = self._one(("list", "list", "count", "sub"))
        if kind == "list":
            text = f"SELECT {', '.join(f't.{name}' for name in columns)} FROM {table} AS t"
            read |= set(columns)
        elif kind == "count":
            text = f"SELECT COUNT(*) FROM {table} AS t"
        else:
            inner, does = self.select()
            text = f"SELECT t.{columns[0]}, EXISTS ({inner}) FROM {table} AS t"
            read.add(columns[0])
            found += does
        where, filtered = self.where(table, "t")
        read |= filtered
        if kind != "count" and self._one((True, False)):
            column = self._one(TABLES[table]["columns"])
            where += f" ORDER BY t.{column}"
            read.add(column)
        return text + where, [*found, Access("read", table, frozenset(read))]

    def where(self, table: str, alias: str) -> tuple[str, set[str]]:
        column = self._one(("TRUE", *TABLES[table]["columns"]))
        if column == "TRUE":
            return " WHERE TRUE", set()
        return f" WHERE {alias}.{column} IS NOT NULL", {column}

    def returning(self, table: str) -> tuple[str, list[Any]]:
        if self._one((True, False, False)):
            column = self._one(TABLES[table]["columns"])
            return f" THEN RETURN {column}", [Access("read", table, frozenset({column}))]
        return "", []

    def insert(self) -> tuple[str, list[Any]]:
        table = self._one(sorted(TABLES))
        key = TABLES[table]["key"]
        columns = sorted({*key, *self._some(TABLES[table]["columns"])})
        or_update = self._one((True, False))
        verb = "INSERT OR UPDATE" if or_update else "INSERT"
        text, returned = self.returning(table)
        # A typed NULL would do, but a key takes none: both kinds of columns take DEFAULT-less literals by their type.
        values = ["1" if name in ("Total", "ItemNo", "Quantity") else "'a'" for name in columns]
        found = [Access("insert", table, frozenset(columns)), *returned]
        if or_update:
            found.append(Access("update", table, frozenset(columns) - frozenset(key)))
        return f"{verb} INTO {table} ({', '.join(columns)}) VALUES ({', '.join(values)}){text}", found

    def update(self) -> tuple[str, list[Any]]:
        table = self._one(sorted(TABLES))
        free = [name for name in TABLES[table]["columns"] if name not in TABLES[table]["key"]]
        columns = self._some(free)
        where, read = self.where(table, "t")
        items = []
        for name in columns:
            if self._one((True, False)):
                items.append(f"{name} = NULL")
            else:
                items.append(f"{name} = t.{name}")
                read.add(name)
        text, returned = self.returning(table)
        found = [Access("update", table, frozenset(columns)), *returned]
        if read:
            found.append(Access("read", table, frozenset(read)))
        return f"UPDATE {table} AS t SET {', '.join(items)}{where}{text}", found

    def delete(self) -> tuple[str, list[Any]]:
        table = self._one(sorted(TABLES))
        where, read = self.where(table, "t")
        text, returned = self.returning(table)
        found = [Access("delete", table), *returned]
        if read:
            found.append(Access("read", table, frozenset(read)))
        return f"DELETE FROM {table} AS t{where}{text}", found


SESSION = "projects/spangate-local/instances/main/databases/shop/sessions/s-clerk"


@st.composite
def requests(draw: st.DrawFn) -> Request:
    session = seals.sealing().session(SESSION)
    kind = draw(st.sampled_from(("sql", "sql", "batch", "read", "commit", "begin", "write", "session", "ddl")))
    writer = Writer(draw)
    options: dict[str, Any] = {"exclude_txn_from_change_streams": draw(st.sampled_from((False, False, True)))}
    options[draw(st.sampled_from(("read_write", "read_write", "partitioned_dml")))] = {}
    if kind == "sql":
        sql, does = writer.statement()
        message = v1.ExecuteSqlRequest(session=session, sql=sql, transaction={"begin": options})
        return Request(V1 + "ExecuteStreamingSql", message, {sql: does})
    if kind == "batch":
        all_of_them = dict(writer.statement() for _ in range(draw(st.integers(1, 3))))
        batch = [{"sql": sql} for sql in all_of_them]
        message = v1.ExecuteBatchDmlRequest(session=session, statements=batch, transaction={"begin": options})
        return Request(V1 + "ExecuteBatchDml", message, all_of_them)
    if kind == "read":
        table = draw(st.sampled_from(sorted(TABLES)))
        index = {"Orders": "OrdersByCustomer", "Customers": "CustomersByEmail"}.get(table, "")
        columns = draw(st.lists(st.sampled_from(TABLES[table]["columns"]), max_size=3))
        fields = {"table": table, "columns": columns, "index": draw(st.sampled_from(("", index)))}
        return Request(V1 + "StreamingRead", v1.ReadRequest(session=session, **fields), {})
    if kind == "session":
        return Request(V1 + "GetSession", v1.GetSessionRequest(name=session), {})
    if kind == "ddl":
        admin = reference.admin
        path = "/google.spanner.admin.database.v1.DatabaseAdmin/"
        where = SESSION.partition("/sessions/")[0]
        if draw(st.booleans()):
            return Request(path + "GetDatabaseDdl", admin.GetDatabaseDdlRequest(database=where), {})
        message = admin.UpdateDatabaseDdlRequest(database=where, statements=["DROP INDEX OrdersByCustomer"])
        return Request(path + "UpdateDatabaseDdl", message, {})
    mutations = draw(st.lists(_mutations(), min_size=1, max_size=3))
    if kind == "begin":
        message = v1.BeginTransactionRequest(session=session, options=options, mutation_key=mutations[0])
        return Request(V1 + "BeginTransaction", message, {})
    if kind == "write":
        groups = [{"mutations": mutations}]
        return Request(V1 + "BatchWrite", v1.BatchWriteRequest(session=session, mutation_groups=groups), {})
    message = v1.CommitRequest(session=session, mutations=mutations, single_use_transaction=options)
    return Request(V1 + "Commit", message, {})


@st.composite
def _mutations(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.sampled_from(("insert", "update", "insert_or_update", "replace", "delete")))
    table = draw(st.sampled_from(sorted(TABLES)))
    if kind == "delete":
        return {"delete": {"table": table, "key_set": {"all_": draw(st.booleans())}}}
    return {kind: {"table": table, "columns": draw(st.lists(st.sampled_from(TABLES[table]["columns"]), max_size=3))}}


def policy_of(held: list[Plain]) -> Plain:
    """A policy of these grants; its version stands for them."""
    version = hashlib.sha256(repr(held).encode()).hexdigest()[:12]
    return {**world.POLICY, "version": version, "grants": held}


def rich(held: list[Plain]) -> list[Plain]:
    """These grants, and enough beside them that something is allowed at all."""
    more = [
        world.grant_of(f"{operation} {table}", "clerk", "shop", world.POLICY["databases"]["shop"]["schema"])
        for operation in ("read", "insert", "update", "delete", "partitioned_dml")
        for table in TABLES
    ]
    return [*held, *more[: len(more) - len(held)]]


@pytest.fixture(scope="module")
def analysers() -> Iterator[AnalyserPool]:
    precompile()
    pool = AnalyserPool(workers=1)
    yield pool
    pool.close()


@pytest.fixture(scope="module")
def lua(analysers: AnalyserPool) -> Iterator[Lua]:
    found = Lua(analysers, world.POLICY, NOW)
    yield found
    found.close()


SLOWLY = settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))


@shows("error-denies", "rests-on-exactly", "filter-reads", "dml-reads-where")
@SLOWLY
@given(held=Held, is_rich=st.booleans(), request=requests())
def test_the_evaluator_and_the_filter_answer_as_the_reference(
    analysers: AnalyserPool, lua: Lua, held: list[Plain], is_rich: bool, request: Request
) -> None:
    plain = policy_of(rich(held) if is_rich else held)
    here = {**seals.WORLD, "policy": plain, "statements": lambda _alias, sql: request.statements[sql]}
    body = wire.framed(type(request.message).serialize(request.message))
    identity = world.spiffe_id("clerk")
    outcome = reference.judge(here, NOW, identity, request.path, body)
    result = Evaluator(analysers).judge(here, NOW, identity, request.path, body)
    judging.assert_answer(plain, NOW, "clerk", "shop", result, outcome)
    lua.replace(plain, NOW)
    result = lua.judge(identity, request.path, body)
    judging.assert_answer(plain, NOW, "clerk", "shop", result, outcome)
    judging.assert_sent(request.path, result, outcome)


# Bytes that nobody sends --------------------------------------------------------------------------------------------


@shows("bytes-read-one-way", "known-fields", "once-only", "wire-types", "minimal-numbers")
def test_what_the_filter_reads_protobuf_reads_alike() -> None:
    worker, random, read = Worker(), Random(11), 0
    for _ in range(4000):
        who, path, body = mutate.request(random)
        checkpoint = FakeCheckpoint()
        worker.now_ms += 1000
        checkpoint.epoch = b"%012x" % worker.now_ms
        tls = Tls(uris=(world.spiffe_id(who).encode(),), expires=worker.now_ms)
        worker.send(path.encode(), body, checkpoint, tls=tls)
        if not checkpoint.asked:
            continue
        try:
            mine = decode_shape(checkpoint.asked[0][1])
        except BadShape:
            continue  # the checkpoint refuses it
        try:
            data = reference.strict(reference.one_message(body, 10**9), reference.RPCS[path].message.DESCRIPTOR)
            reference.RPCS[path].message.FromString(data)
        except reference.DecodeError:
            continue  # Spanner refuses it; what is refused by `strict` instead is a failure
        assert comparable(mine) == comparable(decode_shape(shape_of(seals.WORLD, path, body))), body.hex()
        read += 1
    assert read > 400


def _judge(fuzz: Fuzz, count: int) -> None:
    for number in range(count):
        fuzz.judge(*mutate.request(Random(f"test {number}")))


@shows("bytes-read-one-way", "opaque-parts", "within-limits")
def test_no_body_is_allowed_whose_accesses_the_identity_does_not_hold() -> None:
    with Fuzz() as fuzz:
        _judge(fuzz, 3000)
    assert fuzz.counts["granted"] > 100
    assert sum(fuzz.counts.values()) == 3000
    assert fuzz.too_strict.total() < 30


@shows("within-limits")
def test_a_message_beyond_the_limit_is_refused_by_its_length_alone(lua: Lua) -> None:
    for path, limit in ((V1 + "ExecuteSql", 10), (V1 + "Commit", 100)):
        body = b"\0" + (limit * 1024 * 1024 + 1).to_bytes(4, "big") + b"\x0a\x01s"
        outcome = reference.judge(seals.WORLD, NOW, world.spiffe_id("root"), path, body)
        assert outcome.reason == lua.judge(world.spiffe_id("root"), path, body).reason == "request-too-large"


def test_the_fuzzer_notices_what_is_allowed_in_error() -> None:
    nobody = {**seals.WORLD, "policy": {**world.POLICY, "identities": {}}}
    with pytest.MonkeyPatch.context() as patch, Fuzz() as fuzz:
        patch.setattr("fuzz.oracle.ORACLES_WORLD", nobody)
        with pytest.raises(Broken, match="unknown-identity"):
            _judge(fuzz, 3000)
