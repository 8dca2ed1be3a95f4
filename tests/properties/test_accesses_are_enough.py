"""What a statement is not said to read cannot influence its result.

Random statements run by ZetaSQL's reference implementation, twice: over the same rows, and over rows in which
everything the accesses do not name is changed. Tables that are not named lose their rows, columns that are not named
get other values.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from fakes.evaluator import Evaluator, Row
from spangate.adapters.zetasql_engine import WasmEngine
from spangate.model.access import Access, Operation
from spangate.model.schema import ObjectKind, SchemaObject
from spangate.sql.ddl import parse_ddl
from spangate.sql.engine import EngineFailure
from spangate.sql.googlesql import Analyzer

SCHEMA = parse_ddl("""
    CREATE TABLE T (a INT64, b INT64, c INT64, d INT64) PRIMARY KEY (a);
    CREATE TABLE U (a INT64, e INT64, f INT64) PRIMARY KEY (a);
""")
# Few different values, so that rows meet in joins, groups and set operations.
CONTENTS: dict[str, list[Row]] = {
    "T": [(1, 1, None, 2), (2, 1, 2, 0), (3, 0, 2, 2), (4, None, 1, 0), (5, 1, 2, 1)],
    "U": [(1, 2, 0), (2, 2, None), (3, 1, 1), (7, 0, 2)],
}


@dataclass(frozen=True)
class Item:
    """Something in a FROM clause: its alias and its columns."""

    alias: str
    columns: tuple[str, ...]


class Writer:
    """Writes random queries; `draw` chooses."""

    def __init__(self, draw: Any) -> None:
        self._draw = draw
        self._aliases = 0

    def query(self, depth: int, outer: tuple[Item, ...] = (), width: int | None = None) -> tuple[str, int]:
        """A query, and how many columns it has; they are called c0, c1, ..."""
        kinds = ["list", "list", "distinct", "group", "window"]
        if depth > 0:
            kinds += ["set", "with"]
        kind = self.one(kinds)
        if kind == "set":
            left, width = self.query(depth - 1, outer, width)
            right, _ = self.query(depth - 1, outer, width)
            operator = self.one(["UNION ALL", "UNION DISTINCT", "EXCEPT DISTINCT", "INTERSECT DISTINCT"])
            return f"({left}) {operator} ({right})", width
        width = width or self.number(1, 3)
        clause, items = self.source(depth, outer)
        scope = (*items, *outer)
        with_clause = ""
        if kind == "with":
            inner, inner_width = self.query(depth - 1)
            name = self.alias()
            with_clause = f"WITH {name} AS ({inner}) "
            item = Item(name, tuple(f"c{n}" for n in range(inner_width)))
            clause, items, scope = f"{clause}, {name}", (*items, item), (item, *scope)
        where = f" WHERE {self.predicate(scope, depth)}" if self.one([True, False]) else ""
        if kind == "group":
            keys = [self.column(items) for _ in range(self.number(0, 2))]
            columns = [self.one([*keys, self.aggregate(scope, depth)]) for _ in range(width)]
            group = f" GROUP BY {', '.join(keys)}" if keys else ""
            having = f" HAVING {self.aggregate(scope, depth)} > 0" if keys and self.one([True, False]) else ""
            select = f"SELECT {self.named(columns)} FROM {clause}{where}{group}{having}"
        elif kind == "window":
            window = (
                f"{self.aggregate(scope, 0)} OVER (PARTITION BY {self.column(items)} ORDER BY {self.column(items)})"
            )
            columns = [window, *(self.expression(scope, depth) for _ in range(width - 1))]
            select = f"SELECT {self.named(columns)} FROM {clause}{where}"
        else:
            columns = [self.expression(scope, depth) for _ in range(width)]
            distinct = "DISTINCT " if kind == "distinct" else ""
            select = f"SELECT {distinct}{self.named(columns)} FROM {clause}{where}"
            if kind == "list" and self.one([True, False, False]):
                select += f" ORDER BY {self.column(items)}, {self.column(items)} LIMIT {self.number(0, 3)}"
        return with_clause + select, width

    def change(self) -> str:
        """An UPDATE or DELETE of T."""
        scope = (Item("x0", SCHEMA.tables[0].column_names),)
        where = self.predicate(scope, 2)
        if self.one([True, False]):
            return f"DELETE FROM T AS x0 WHERE {where}"
        targets = self.one([["b"], ["c"], ["b", "d"], ["d", "c", "b"]])
        items = ", ".join(f"{target} = {self.expression(scope, 1)}" for target in targets)
        return f"UPDATE T AS x0 SET {items} WHERE {where}"

    def source(self, depth: int, outer: tuple[Item, ...]) -> tuple[str, tuple[Item, ...]]:
        """A FROM clause and what it brings."""
        kind = self.one(["table", "table", "star", "query", "join"] if depth > 0 else ["table"])
        if kind == "join":
            left, left_items = self.source(depth - 1, outer)
            right, right_items = self.source(0, outer)
            items = (*left_items, *right_items)
            join = self.one(["JOIN", "LEFT JOIN", "FULL JOIN", "CROSS JOIN"])
            condition = "" if join == "CROSS JOIN" else f" ON {self.column(left_items)} = {self.column(right_items)}"
            return f"{left} {join} {right}{condition}", items
        alias = self.alias()
        if kind == "query":
            inner, width = self.query(depth - 1)
            return f"({inner}) AS {alias}", (Item(alias, tuple(f"c{n}" for n in range(width))),)
        table = self.one(SCHEMA.tables)
        if kind == "star":
            left = self.one(table.column_names)
            rest = tuple(name for name in table.column_names if name != left)
            inner = f"SELECT {self.one(['', 'DISTINCT '])}* EXCEPT ({left}) FROM {table.name}"
            return f"({inner}) AS {alias}", (Item(alias, rest),)
        return f"{table.name} AS {alias}", (Item(alias, table.column_names),)

    def expression(self, scope: tuple[Item, ...], depth: int) -> str:
        kinds = ["column", "column", "column", "number", "sum", "if"]
        if depth > 0:
            kinds += ["row", "scalar", "array", "count"]
        match self.one(kinds):
            case "column":
                return self.column(scope)
            case "number":
                return str(self.number(0, 3))
            case "sum":
                return f"({self.column(scope)} + {self.expression(scope, depth - 1)})"
            case "if":
                return f"IF({self.predicate(scope, depth - 1)}, {self.column(scope)}, {self.number(0, 3)})"
            case "row":
                return f"FARM_FINGERPRINT(TO_JSON_STRING({self.one(scope).alias}))"
            case "scalar":
                return f"(SELECT MAX(q.c0) FROM ({self.query(depth - 1, scope, 1)[0]}) AS q)"
            case "array":
                return f"ARRAY_LENGTH(ARRAY(SELECT AS STRUCT * FROM ({self.query(depth - 1, scope)[0]})))"
            case _:
                return f"(SELECT COUNT(*) FROM ({self.query(depth - 1, scope)[0]}))"

    def predicate(self, scope: tuple[Item, ...], depth: int) -> str:
        kinds = ["compare", "compare", "null"]
        if depth > 0:
            kinds += ["in", "exists", "not", "or"]
        match self.one(kinds):
            case "compare":
                return f"{self.column(scope)} {self.one(['=', '<', '!='])} {self.expression(scope, 0)}"
            case "null":
                return f"{self.column(scope)} IS NULL"
            case "in":
                return f"{self.column(scope)} IN ({self.query(depth - 1, scope, 1)[0]})"
            case "exists":
                return f"EXISTS ({self.query(depth - 1, scope)[0]})"
            case "not":
                return f"NOT ({self.predicate(scope, depth - 1)})"
            case _:
                return f"({self.predicate(scope, depth - 1)} OR {self.predicate(scope, depth - 1)})"

    def aggregate(self, scope: tuple[Item, ...], depth: int) -> str:
        if self.one([True, False, False]):
            return "COUNT(*)"
        function = self.one(["MAX", "MIN", "SUM", "COUNT"])
        return f"{function}({self.expression(scope, min(depth, 0))})"

    def named(self, columns: list[str]) -> str:
        return ", ".join(f"{column} AS c{n}" for n, column in enumerate(columns))

    def column(self, scope: tuple[Item, ...]) -> str:
        item = self.one(scope)
        return f"{item.alias}.{self.one(item.columns)}"

    def alias(self) -> str:
        self._aliases += 1
        return f"x{self._aliases}"

    def one(self, choices: Any) -> Any:
        return self._draw(st.sampled_from(choices))

    def number(self, least: int, most: int) -> int:
        return int(self._draw(st.integers(least, most)))


@st.composite
def queries(draw: Any) -> str:
    return Writer(draw).query(depth=2)[0]


@st.composite
def changes(draw: Any) -> str:
    return Writer(draw).change()


def other_value(row: int, place: int) -> int | None:
    """Something that CONTENTS has not there; keys stay different and are never NULL."""
    return None if place and (row + place) % 3 == 0 else 100 * (row + 1) + place


def changed(accesses: tuple[Access, ...]) -> dict[str, list[Row]]:
    """CONTENTS with everything changed that the accesses do not read."""
    read = {access.table: access.columns for access in accesses if access.operation is Operation.READ}
    touched = {access.table for access in accesses}
    return {
        table.name: [
            tuple(
                value if column in read.get(table.name, ()) else other_value(row, place)
                for place, (column, value) in enumerate(zip(table.column_names, values, strict=True))
            )
            for row, values in enumerate(CONTENTS[table.name] if table.name in touched else [])
        ]
        for table in SCHEMA.tables
    }


@pytest.fixture(scope="module")
def analyzer(zetasql_engine: WasmEngine) -> Analyzer:
    return Analyzer(zetasql_engine, SCHEMA)


@pytest.fixture(scope="module")
def evaluator(zetasql_engine: WasmEngine) -> Evaluator:
    return Evaluator(zetasql_engine, SCHEMA)


def result(evaluator: Evaluator, sql: str, contents: dict[str, list[Row]]) -> list[bytes] | str:
    try:
        return evaluator.rows(sql, contents)
    except EngineFailure as failure:
        return failure.message


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(sql=queries())
def test_what_is_not_read_has_no_influence(analyzer: Analyzer, evaluator: Evaluator, sql: str) -> None:
    accesses = analyzer.accesses(sql, {})
    note(sql)
    note(str([str(access) for access in accesses]))
    assert all(access.operation is Operation.READ for access in accesses)
    assert result(evaluator, sql, changed(accesses)) == result(evaluator, sql, CONTENTS)


def effect(evaluator: Evaluator, sql: str, contents: dict[str, list[Row]], columns: tuple[str, ...]) -> Any:
    """Which rows of T change, by their place, and the new values of `columns`."""
    try:
        found = evaluator.changes(sql, contents)
    except EngineFailure as failure:
        return failure.message
    places = {row[0]: place for place, row in enumerate(contents["T"])}
    names = SCHEMA.tables[0].column_names
    return {places[key]: [row[names.index(name)] for name in columns if row] for key, row in found.items()}


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(sql=changes())
def test_what_is_not_read_has_no_influence_on_what_is_written(
    analyzer: Analyzer, evaluator: Evaluator, sql: str
) -> None:
    accesses = analyzer.accesses(sql, {})
    note(sql)
    note(str([str(access) for access in accesses]))
    (written,) = [access for access in accesses if access.operation is not Operation.READ]
    assert written.table == "T"
    once = effect(evaluator, sql, CONTENTS, written.columns)
    assert effect(evaluator, sql, changed(accesses), written.columns) == once


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(sql=changes())
def test_what_is_not_written_stays(analyzer: Analyzer, evaluator: Evaluator, sql: str) -> None:
    (written,) = [access for access in analyzer.accesses(sql, {}) if access.operation is not Operation.READ]
    rest = tuple(name for name in SCHEMA.tables[0].column_names if name not in written.columns)
    after = effect(evaluator, sql, CONTENTS, rest)
    if isinstance(after, dict) and written.operation is Operation.UPDATE:
        names = SCHEMA.tables[0].column_names
        for place, values in after.items():
            assert values == [CONTENTS["T"][place][names.index(name)] for name in rest]


@pytest.mark.parametrize(
    ("sql", "accesses"),
    [
        ("SELECT t.a FROM T t WHERE t.b = 1", (Access(Operation.READ, "T", ("a",)),)),
        ("SELECT COUNT(*) FROM (SELECT DISTINCT b FROM T)", (Access(Operation.READ, "T"),)),
        ("SELECT EXISTS (SELECT 1 FROM U)", ()),
    ],
)
def test_the_judge_notices_an_access_that_is_missing(
    evaluator: Evaluator, sql: str, accesses: tuple[Access, ...]
) -> None:
    assert result(evaluator, sql, changed(accesses)) != result(evaluator, sql, CONTENTS)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(inner=queries(), definer=st.booleans())
def test_a_view_is_read_together_with_what_its_query_reads_unless_its_definer_answers_for_it(
    zetasql_engine: WasmEngine, analyzer: Analyzer, inner: str, definer: bool
) -> None:
    view = SchemaObject(ObjectKind.VIEW, "V", f"CREATE VIEW V SQL SECURITY INVOKER AS {inner}", definer)
    nested = SchemaObject(ObjectKind.VIEW, "W", "CREATE VIEW W SQL SECURITY INVOKER AS SELECT v.c0 FROM V AS v")
    over = Analyzer(zetasql_engine, replace(SCHEMA, objects=(nested, view)))
    try:
        found = over.accesses("SELECT COUNT(*) FROM W", {})
    finally:
        over.close()
    itself = {Access(Operation.READ, "V"), Access(Operation.READ, "W")}
    assert set(found) == itself | (set() if definer else set(analyzer.accesses(inner, {})))
