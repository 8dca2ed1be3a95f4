"""What reads and mutations touch: one test for each rule of rpc/accesses.py."""

from __future__ import annotations

import pytest

from spangate.model.access import Access, Operation
from spangate.model.database import DatabasePath
from spangate.model.schema import Column, Index, ObjectKind, Schema, SchemaObject, Table
from spangate.rpc.accesses import UnknownName, accesses_of, accesses_of_mutations, accesses_of_read
from spangate.rpc.shape import MutationKind, MutationShape, ReadShape, Shape, Statement

READ, INSERT, UPDATE, DELETE = Operation.READ, Operation.INSERT, Operation.UPDATE, Operation.DELETE


def table(name: str, columns: str, key: str) -> Table:
    return Table(name, tuple(Column(column, "INT64") for column in columns.split()), tuple(key.split()))


SCHEMA = Schema(
    tables=(
        table("Orders", "CustomerId OrderId Status Total Note", "CustomerId OrderId"),
        table("Customers", "CustomerId Name Email", "CustomerId"),
        table("sales.Orders", "Id Sum", "Id"),
        table("Single", "A B", ""),
    ),
    indexes=(
        Index("OrdersByStatus", "Orders", ("Status",), ("Total",)),
        Index("CustomersByName", "Customers", ("Name",)),
        Index("sales.BySum", "sales.Orders", ("Sum",)),
    ),
    objects=(
        SchemaObject(ObjectKind.QUEUE, "Work", "CREATE QUEUE Work"),
        SchemaObject(ObjectKind.VIEW, "Names", "CREATE VIEW Names"),
    ),
)
PATH = DatabasePath("p", "i", "d")
STATEMENT = Statement("UPDATE", {})
TABLE_KINDS = [kind for kind in MutationKind if kind not in (MutationKind.SEND, MutationKind.ACK)]


def read(table: str, *columns: str, index: str = "") -> tuple[Access, ...]:
    return accesses_of_read(ReadShape(table, index, columns), SCHEMA)


def written(kind: str, table: str, *columns: str) -> tuple[Access, ...]:
    return accesses_of_mutations([MutationShape(MutationKind(kind), table, columns)], SCHEMA)


def test_a_read_reads_the_columns_and_the_primary_key():
    assert read("Orders", "Total") == (Access(READ, "Orders", ("CustomerId", "OrderId", "Total")),)


def test_a_read_of_no_column_reads_the_primary_key():
    assert read("Orders") == (Access(READ, "Orders", ("CustomerId", "OrderId")),)


def test_a_read_by_an_index_reads_its_key_and_what_it_stores_too():
    expected = (Access(READ, "Orders", ("CustomerId", "OrderId", "Status", "Total")),)
    assert read("Orders", "OrderId", index="OrdersByStatus") == expected
    assert read("Orders", "OrderId", index="ordersbystatus") == expected


def test_the_primary_key_may_be_named_as_index():
    assert read("Orders", "Total", index="PRIMARY_KEY") == read("Orders", "Total")


def test_an_index_of_another_table_is_unknown():
    with pytest.raises(UnknownName, match="table `Orders` has no index `CustomersByName`"):
        read("Orders", "Total", index="CustomersByName")


def test_an_index_that_does_not_exist_is_unknown():
    with pytest.raises(UnknownName, match="table `Orders` has no index `Nope`"):
        read("Orders", "Total", index="Nope")


def test_names_are_found_in_any_case_and_spelled_as_in_the_schema():
    assert read("ORDERS", "total", "TOTAL") == (Access(READ, "Orders", ("CustomerId", "OrderId", "Total")),)


def test_a_table_in_a_named_schema_is_another_table():
    assert read("sales.Orders", "Sum", index="sales.BySum") == (Access(READ, "sales.Orders", ("Id", "Sum")),)
    with pytest.raises(UnknownName, match="has no index"):
        read("Orders", "Total", index="sales.BySum")


def test_a_table_without_key_is_read_as_it_is():
    assert read("Single", "A") == (Access(READ, "Single", ("A",)),)


def test_an_insert_inserts_the_columns():
    assert written("insert", "Orders", "OrderId", "CustomerId") == (
        Access(INSERT, "Orders", ("CustomerId", "OrderId")),
    )


def test_an_update_updates_the_columns_but_the_primary_key():
    assert written("update", "Orders", "CustomerId", "OrderId", "Status") == (Access(UPDATE, "Orders", ("Status",)),)


def test_an_update_of_the_key_alone_is_still_an_update_of_the_table():
    assert written("update", "Orders", "customerid", "ORDERID") == (Access(UPDATE, "Orders"),)


def test_insert_or_update_does_both():
    assert written("insert_or_update", "Customers", "CustomerId", "Name") == (
        Access(INSERT, "Customers", ("CustomerId", "Name")),
        Access(UPDATE, "Customers", ("Name",)),
    )


def test_a_replace_deletes_and_inserts():
    assert set(written("replace", "Customers", "CustomerId", "Name")) == {
        Access(DELETE, "Customers"),
        Access(INSERT, "Customers", ("CustomerId", "Name")),
    }


def test_a_delete_deletes():
    assert written("delete", "Customers") == (Access(DELETE, "Customers"),)


def test_mutations_of_one_kind_and_table_are_one_access():
    mutations = [
        MutationShape(MutationKind.INSERT, "Orders", ("OrderId", "Total")),
        MutationShape(MutationKind.INSERT, "orders", ("OrderId", "Note")),
        MutationShape(MutationKind.DELETE, "Customers", ()),
    ]
    assert set(accesses_of_mutations(mutations, SCHEMA)) == {
        Access(INSERT, "Orders", ("Note", "OrderId", "Total")),
        Access(DELETE, "Customers"),
    }


def test_no_mutation_touches_nothing():
    assert accesses_of_mutations([], SCHEMA) == ()


def test_a_message_is_sent_to_its_queue_and_acknowledged_there():
    assert written("send", "work") == (Access(Operation.SEND, "Work"),)
    assert written("ack", "WORK") == (Access(Operation.ACK, "Work"),)


@pytest.mark.parametrize("kind", ["send", "ack"])
@pytest.mark.parametrize("name", ["Orders", "Names", "Nope", ""])
def test_what_is_no_queue_is_unknown(kind, name):
    with pytest.raises(UnknownName, match=f"the schema has no queue `{name}`$"):
        written(kind, name)


def test_a_queue_that_does_not_exist_is_unknown():
    with pytest.raises(UnknownName, match=r"no queue `Wrok`$"):
        written("send", "Wrok")


def test_hidden_writes_are_an_access_of_their_own():
    shape = Shape("Commit", PATH, mutations=(MutationShape(MutationKind.DELETE, "Orders", ()),), hides_writes=True)
    hidden = Access(Operation.EXCLUDE_FROM_CHANGE_STREAMS, "")
    assert set(accesses_of(shape, [], SCHEMA)) == {Access(DELETE, "Orders"), hidden}
    assert accesses_of(Shape("BeginTransaction", PATH, hides_writes=True), [], SCHEMA) == (hidden,)


def test_partitioned_dml_is_an_access_on_each_table_that_is_written():
    shape = Shape("ExecuteSql", PATH, statements=(STATEMENT,), partitioned=True)
    made = [Access(READ, "Customers", ("Name",)), Access(UPDATE, "Orders", ("Note",)), Access(DELETE, "Single")]
    partitioned = {Access(Operation.PARTITIONED_DML, "Orders"), Access(Operation.PARTITIONED_DML, "Single")}
    assert set(accesses_of(shape, made, SCHEMA)) == {*made, *partitioned}


def test_partitioned_dml_that_begins_is_an_access_on_no_table_in_particular():
    for method in ("BeginTransaction", "Commit"):
        shape = Shape(method, PATH, partitioned=True)
        assert accesses_of(shape, [], SCHEMA) == (Access(Operation.PARTITIONED_DML, ""),)


@pytest.mark.parametrize(
    ("method", "operation"),
    [
        ("GetDatabase", Operation.SCHEMA),
        ("GetDatabaseDdl", Operation.SCHEMA),
        ("UpdateDatabaseDdl", Operation.DDL),
        ("GetOperation", Operation.DDL),
    ],
)
def test_the_schema_is_read_and_changed_by_accesses_to_the_database(method, operation):
    assert accesses_of(Shape(method, PATH), [], SCHEMA) == (Access(operation, ""),)


@pytest.mark.parametrize("method", ["Rollback", "CreateSession", "ListSessions", "Commit", "BatchWrite"])
def test_other_calls_touch_nothing(method):
    assert accesses_of(Shape(method, PATH), [], SCHEMA) == ()


@pytest.mark.parametrize("kind", TABLE_KINDS)
def test_a_table_that_does_not_exist_is_unknown_and_no_other_is_named(kind):
    with pytest.raises(UnknownName, match=r"the schema has no table `Custmers`$"):
        written(kind, "Custmers")


@pytest.mark.parametrize("kind", ["insert", "update", "insert_or_update", "replace"])
def test_a_column_that_does_not_exist_is_unknown_and_no_other_is_named(kind):
    with pytest.raises(UnknownName, match=r"table `Orders` has no column `Totl`$"):
        written(kind, "Orders", "OrderId", "Totl")


def test_a_long_name_is_shortened_in_the_message():
    for attempt in (lambda: read("x" * 10_000), lambda: read("Orders", "x" * 10_000)):
        with pytest.raises(UnknownName) as caught:
            attempt()
        assert len(str(caught.value)) < 300
