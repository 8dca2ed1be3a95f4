"""Trees that ZetaSQL would not make: whatever is not understood or contradicts itself is refused."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.message import Message
from zetasql.wasi._pb2.zetasql.proto import function_pb2
from zetasql.wasi._pb2.zetasql.public import annotation_pb2, type_pb2, value_pb2
from zetasql.wasi._pb2.zetasql.public import parse_location_range_pb2 as location_pb2
from zetasql.wasi._pb2.zetasql.public import type_modifiers_pb2 as modifiers_pb2
from zetasql.wasi._pb2.zetasql.resolved_ast import resolved_ast_enums_pb2 as enums
from zetasql.wasi._pb2.zetasql.resolved_ast import resolved_ast_pb2 as ast
from zetasql.wasi._pb2.zetasql.resolved_ast import serialization_pb2

from spangate.sql import understood
from spangate.sql.ddl import parse_ddl
from spangate.sql.tree import NotUnderstood, accesses_of
from spangate.sql.wire import Node

SCHEMA = parse_ddl("""
    CREATE TABLE Customers (Id INT64, Name STRING(MAX), Secret STRING(MAX)) PRIMARY KEY (Id);
    CREATE TABLE Orders (Id INT64) PRIMARY KEY (Id);
""")
READ, WRITE = enums.ResolvedStatementEnums.READ, enums.ResolvedStatementEnums.WRITE


def scan(*columns: str, table: str = "Customers", number: int = 0) -> Any:
    """A scan of columns of Customers; a column's number in the statement is its place in the table plus 10."""
    names = SCHEMA.tables[0].column_names
    made = ast.ResolvedTableScanProto()
    made.table.name = made.table.full_name = table
    made.table.serialization_id = number
    for name in columns:
        made.column_index_list.append(names.index(name))
        made.parent.column_list.add(column_id=10 + names.index(name), name=name, table_name=table)
    return made


def query(table_scan: Any) -> Any:
    statement = ast.AnyResolvedStatementProto()
    statement.resolved_query_stmt_node.query.resolved_table_scan_node.CopyFrom(table_scan)
    return statement


def update(*uses: int, target: int = 11) -> Any:
    """`UPDATE Customers SET <target>` with a scan of Id and Name."""
    statement = ast.AnyResolvedStatementProto()
    node = statement.resolved_update_stmt_node
    node.table_scan.CopyFrom(scan("Id", "Name"))
    node.column_access_list.extend(uses)
    item = node.update_item_list.add()
    item.target.resolved_column_ref_node.column.column_id = target
    item.set_value.value.resolved_literal_node.SetInParent()
    return statement


def accesses(statement: Message) -> str:
    node = Node(statement.DESCRIPTOR, statement.SerializeToString())
    return "; ".join(map(str, accesses_of(node, SCHEMA)))


def test_a_scan_reads_its_columns() -> None:
    assert accesses(query(scan("Id", "Secret"))) == "read Customers(Id, Secret)"
    assert accesses(query(scan())) == "read Customers"


def test_an_update_writes_its_targets() -> None:
    assert accesses(update(READ, WRITE)) == "read Customers(Id); update Customers(Name)"


def test_nothing_is_no_statement() -> None:
    with pytest.raises(NotUnderstood, match="there is no statement"):
        accesses(ast.AnyResolvedStatementProto())


@pytest.mark.parametrize("field", sorted(field.name for field in ast.AnyResolvedStatementProto.DESCRIPTOR.fields))
def test_every_other_kind_of_statement_is_refused(field: str) -> None:
    if field.removesuffix("_stmt_node") in {"resolved_query", "resolved_insert", "resolved_update", "resolved_delete"}:
        return
    statement = ast.AnyResolvedStatementProto()
    getattr(statement, field).SetInParent()
    with pytest.raises(NotUnderstood, match="not supported"):
        accesses(statement)


@pytest.mark.parametrize("union", ["AnyResolvedScanProto", "AnyResolvedExprProto"])
def test_every_kind_of_node_is_either_listed_or_refused(union: str) -> None:
    for field in getattr(ast, union).DESCRIPTOR.fields:
        statement = ast.AnyResolvedStatementProto()
        place = statement.resolved_query_stmt_node.query
        if union == "AnyResolvedExprProto":
            place = place.resolved_filter_scan_node.filter_expr
        getattr(place, field.name).SetInParent()
        kind = field.message_type.name
        if kind in {"ResolvedTableScanProto", "ResolvedFunctionCallBaseProto"}:
            continue
        if kind in understood.UNDERSTOOD:
            assert accesses(statement) == ""
        else:
            with pytest.raises(NotUnderstood, match="not supported"):
                accesses(statement)


def test_lists_name_only_messages_that_exist() -> None:
    files = (ast, serialization_pb2, function_pb2, value_pb2, type_pb2, annotation_pb2, location_pb2, modifiers_pb2)
    known = {name for file in files for name in file.DESCRIPTOR.message_types_by_name}
    assert (understood.UNDERSTOOD | understood.LEAVES) - known == set()


@pytest.mark.parametrize(
    "bad",
    [
        scan(number=1),
        scan(number=2),
        scan(number=-1),
        scan(table="customers"),
        ast.ResolvedTableScanProto(),
    ],
    ids=["another table's number", "no table's number", "a negative number", "another name", "nothing"],
)
def test_a_scan_of_a_table_that_is_not_in_the_schema_is_refused(bad: Any) -> None:
    with pytest.raises(NotUnderstood, match="is not in the schema"):
        accesses(query(bad))


def test_a_scan_that_does_not_say_what_it_reads_is_refused() -> None:
    without_indexes = scan("Id")
    del without_indexes.column_index_list[:]
    with pytest.raises(NotUnderstood, match="does not say"):
        accesses(query(without_indexes))


@pytest.mark.parametrize("index", [1, 3, -1])
def test_a_scan_whose_columns_and_numbers_disagree_is_refused(index: int) -> None:
    bad = scan("Id")
    bad.column_index_list[0] = index
    with pytest.raises(NotUnderstood, match="contradicts itself about `Id`"):
        accesses(query(bad))


def test_a_table_read_as_a_row_is_refused() -> None:
    bad = scan("Id")
    bad.read_as_row_type = True
    with pytest.raises(NotUnderstood, match="row type"):
        accesses(query(bad))
    bad = scan("Id")
    bad.table_column_list.add(name="Secret")
    with pytest.raises(NotUnderstood, match="row type"):
        accesses(query(bad))


@pytest.mark.parametrize("name", ["", "abs", "Elsewhere:abs", "zetasql:abs"])
def test_a_function_of_unknown_origin_is_refused(name: str) -> None:
    statement = ast.AnyResolvedStatementProto()
    expression = statement.resolved_query_stmt_node.query.resolved_filter_scan_node.filter_expr
    call = expression.resolved_function_call_base_node.resolved_function_call_node.parent
    call.function.name = name
    with pytest.raises(NotUnderstood, match="the function"):
        accesses(statement)


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        (update(WRITE), "not clear which"),
        (update(), "not clear which"),
        (update(READ, WRITE, WRITE), "not clear which"),
        (update(WRITE, WRITE), "not clear which"),
        (update(READ, READ), "not clear which"),
        (update(READ, WRITE, target=12), "not a column"),
    ],
)
def test_an_update_whose_parts_disagree_is_refused(statement: Any, reason: str) -> None:
    with pytest.raises(NotUnderstood, match=reason):
        accesses(statement)


def test_a_delete_that_writes_columns_is_refused() -> None:
    statement = ast.AnyResolvedStatementProto()
    statement.resolved_delete_stmt_node.table_scan.CopyFrom(scan("Id"))
    statement.resolved_delete_stmt_node.column_access_list.append(WRITE)
    with pytest.raises(NotUnderstood, match="not clear which"):
        accesses(statement)


@pytest.mark.parametrize("nested", ["delete_list", "update_list", "insert_list"])
def test_statements_inside_of_an_update_are_refused(nested: str) -> None:
    statement = update(READ, WRITE)
    getattr(statement.resolved_update_stmt_node.update_item_list[0], nested).add()
    with pytest.raises(NotUnderstood, match="not supported"):
        accesses(statement)


def test_a_scan_is_found_even_in_a_hint() -> None:
    statement = query(scan("Id"))
    hint = statement.resolved_query_stmt_node.parent.hint_list.add()
    other = statement.resolved_query_stmt_node.query.resolved_table_scan_node.parent.hint_list.add()
    for place in (hint, other):
        hidden = place.value.resolved_subquery_expr_node.subquery.resolved_table_scan_node
        hidden.CopyFrom(scan("Secret"))
    assert accesses(statement) == "read Customers(Id, Secret)"
