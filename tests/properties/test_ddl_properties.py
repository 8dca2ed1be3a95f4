"""Schemas that are made at random read back as they were meant; text of any kind gives a schema or an error's place."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from spangate.adapters.zetasql_engine import WasmEngine
from spangate.model.schema import Column, Index, ObjectKind, Schema, Table
from spangate.sql.ddl import DdlError, parse_ddl
from spangate.sql.ddl_cursor import RESERVED
from spangate.sql.googlesql import Analyzer
from spangate.sql.objects import model_of, view_query

NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,9}", fullmatch=True)
SCALARS = st.sampled_from(["BOOL", "BYTES(MAX)", "DATE", "FLOAT32", "INT64", "JSON", "NUMERIC", "STRING(36)", "UUID"])
TYPES = st.one_of(SCALARS, SCALARS.map("ARRAY<{}>".format), st.just("shop.Message"))
FILLERS = st.sampled_from([" ", "  ", "\n", "\t", ' -- it\'s; a "comment"\n', " # another\n", " /* ; ' ` */ "])


@st.composite
def schemas(draw: Any) -> Schema:
    """Tables with columns, keys, parents and indexes; no name twice, in any case."""
    names = iter(draw(st.lists(NAMES, min_size=1, max_size=6, unique_by=str.lower)))
    tables: list[Table] = []
    indexes: list[Index] = []
    for name in names:
        if tables and draw(st.booleans()):
            table = draw(st.sampled_from(tables))
            columns = draw(st.lists(st.sampled_from(table.column_names), min_size=1, max_size=3, unique=True))
            cut = draw(st.integers(1, len(columns)))
            indexes.append(Index(name, table.name, tuple(columns[:cut]), tuple(columns[cut:])))
            continue
        columns = [
            Column(
                column,
                draw(TYPES),
                not_null=draw(st.booleans()),
                generated=draw(st.booleans()),
                hidden=draw(st.booleans()),
            )
            for column in draw(st.lists(NAMES, min_size=1, max_size=4, unique_by=str.lower))
        ]
        key = draw(st.lists(st.sampled_from([column.name for column in columns]), max_size=3, unique=True))
        parent = draw(st.sampled_from([None, *(table.name for table in tables)]))
        tables.append(Table(name, tuple(columns), tuple(key), parent))
    return Schema(tuple(tables), tuple(indexes))


class Scribe:
    """Writes a schema down, in random case, quotes and spacing."""

    def __init__(self, draw: Any) -> None:
        self._draw = draw

    def schema(self, schema: Schema) -> str:
        written = [*map(self.table, schema.tables), *map(self.index, schema.indexes)]
        return self._draw(FILLERS) + f"{self._draw(FILLERS)};".join(written) + self._draw(st.sampled_from(["", ";"]))

    def table(self, table: Table) -> str:
        columns = ["".join(self.column(column)) for column in table.columns]
        parent = self.words(f", INTERLEAVE IN PARENT {self.name(table.parent)}") if table.parent else ""
        key = self.words(f"PRIMARY KEY ({', '.join(map(self.name, table.primary_key))})")
        return self.words(f"CREATE TABLE {self.name(table.name)} ( {', '.join(columns)} ) ") + key + parent

    def column(self, column: Column) -> str:
        clauses = []
        if column.not_null:
            clauses.append("NOT NULL")
        if column.generated:
            clauses.append("AS ( CONCAT('); --', \"'\") ) STORED")
        if column.hidden:
            clauses.append("HIDDEN")
        if self._draw(st.booleans()):
            clauses.append("OPTIONS ( a = 'b' )")
        return " ".join([self.name(column.name), column.type, *self._draw(st.permutations(clauses))])

    def index(self, index: Index) -> str:
        kind = self._draw(st.sampled_from(["", "UNIQUE ", "NULL_FILTERED ", "UNIQUE NULL_FILTERED "]))
        key = ", ".join(f"{self.name(name)}{self._draw(st.sampled_from(['', ' DESC', ' ASC']))}" for name in index.key)
        storing = f" STORING ( {', '.join(map(self.name, index.storing))} )" if index.storing else ""
        return self.words(f"CREATE {kind}INDEX {self.name(index.name)} ON {self.name(index.table)} ( {key} ){storing}")

    def name(self, name: str) -> str:
        return f"`{name}`" if name.upper() in RESERVED or self._draw(st.booleans()) else name

    def words(self, text: str) -> str:
        """The text with other spaces; none of ours stands inside of a string."""
        if "'" in text:
            return text
        return "".join(self._draw(FILLERS) if letter == " " else letter for letter in text)


@given(data=st.data(), schema=schemas())
def test_what_was_written_is_read(data: Any, schema: Schema) -> None:
    assert parse_ddl(Scribe(data.draw).schema(schema)) == schema


@given(data=st.data(), schema=schemas())
def test_the_statements_make_the_same_schema_again(data: Any, schema: Schema) -> None:
    once = parse_ddl(Scribe(data.draw).schema(schema))
    again = parse_ddl(";".join(once.statements))
    assert again == once
    assert again.statements == once.statements
    assert len(once.statements) == len(schema.tables) + len(schema.indexes)


PIECES = st.sampled_from(
    [
        *("CREATE TABLE INDEX ALTER DROP COLUMN ADD IF NOT EXISTS VIEW T ON IN PARENT INTERLEAVE STORED".split()),  # noqa: SIM905
        *("PRIMARY KEY INT64 STRING MAX ARRAY NULL DEFAULT AS CONSTRAINT CHECK FOREIGN REFERENCES 'a' 1".split()),  # noqa: SIM905
        *("( ) , ; < > . => ` ' \" /* */ -- #".split()),  # noqa: SIM905
        *("SQL SECURITY INVOKER DEFINER SELECT SEQUENCE CHANGE STREAM MODEL OUTPUT QUEUE GRAPH OR REPLACE".split()),  # noqa: SIM905
        "\n",
    ]
)


@settings(max_examples=300)
@given(text=st.one_of(st.text(max_size=60), st.lists(PIECES, max_size=30).map(" ".join)))
@example("CREATE TABLE T (a INT64 DEFAULT (")
@example("CREATE TABLE T (a INT64 DEFAULT (1)))")
@example("`")
@example("/*")
@example("''''")
@example("CREATE TABLE T (a ARRAY<")
@example("CREATE VIEW V SQL SECURITY DEFINER AS")
@example("CREATE VIEW V SQL SECURITY INVOKER")
@example("CREATE MODEL M OUTPUT (")
def test_any_text_is_a_schema_or_an_error_inside_of_it(text: str) -> None:
    try:
        schema = parse_ddl(text)
    except DdlError as error:
        mistake = error
    else:
        assert schema.statements
        assert all(one.definition in schema.statements for one in schema.objects)
        for one in schema.objects:
            if one.kind is ObjectKind.VIEW:
                assert one.definition.endswith(view_query(one))
            model_of(one)
        return
    lines = text.split("\n")
    assert 1 <= mistake.line <= len(lines)
    assert 1 <= mistake.column <= len(lines[mistake.line - 1]) + 1
    assert mistake.message


@given(schema=schemas(), data=st.data())
def test_a_schema_cut_anywhere_is_an_error_or_a_smaller_schema(schema: Schema, data: Any) -> None:
    text = Scribe(data.draw).schema(schema)
    cut = text[: data.draw(st.integers(0, len(text)))]
    try:
        smaller = parse_ddl(cut)
    except DdlError:
        return
    for table in smaller.tables:
        whole = schema.table(table.name)
        assert whole is not None
        assert (table.columns, table.primary_key) == (whole.columns, whole.primary_key)


@settings(max_examples=30, deadline=None)
@given(schema=schemas())
def test_every_schema_can_be_asked_about(zetasql_engine: WasmEngine, schema: Schema) -> None:
    analyzer = Analyzer(zetasql_engine, schema)
    for table in schema.tables:
        columns = ", ".join(f"the_table.`{name}`" for name in table.column_names)
        (access,) = analyzer.accesses(f"SELECT {columns} FROM `{table.name}` AS the_table", {})
        assert access.table == table.name
        assert access.columns == tuple(sorted(table.column_names))
    analyzer.close()


@pytest.mark.parametrize("count", [3_000])
def test_the_time_to_read_grows_with_the_text_and_no_faster(count: int) -> None:
    """Texts that make careless patterns slow; the test's time limit is the judge."""
    for piece in ("'", "(", "/*", "`a", "\\", "-- a\n", "0x", "1e", "a.", "CREATE TABLE T (a INT64 DEFAULT ('"):
        with pytest.raises(DdlError):
            parse_ddl(piece * count)
