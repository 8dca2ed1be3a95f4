"""A resolved statement -> the accesses it makes.

Rules: the whole tree is walked, field by field, so that no scan can hide in a corner; a node of a kind that is not
listed here as understood makes the statement unreadable. What is read stands in the scans: ZetaSQL prunes from every
scan the columns that cannot influence the result. What is written stands in the statement; its own table's list says
for each column whether it is read, written or both, and has to agree with what the clauses say. Sequences, change
streams and models stand in the arguments of the functions that use them.
Not here: how the tree is made (googlesql.py), what reading a name means (relations.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from zetasql.wasi._pb2.zetasql.public import type_pb2
from zetasql.wasi._pb2.zetasql.resolved_ast import resolved_ast_enums_pb2 as enums

from spangate.model.access import Access, Operation, merged
from spangate.model.schema import Schema, Table
from spangate.sql.functions import BUILTIN_GROUP, FUNCTION_GROUP, NEXT_SEQUENCE_VALUE, PREDICT, SEQUENCE_STATE
from spangate.sql.graphs import Element
from spangate.sql.relations import Names, Origin, Relation, names_of
from spangate.sql.understood import LEAVES, UNDERSTOOD
from spangate.sql.wire import Node

_READS = frozenset({enums.ResolvedStatementEnums.READ, enums.ResolvedStatementEnums.READ_WRITE})
_WRITES = frozenset({enums.ResolvedStatementEnums.WRITE, enums.ResolvedStatementEnums.READ_WRITE})
_FUNCTION_GROUPS = frozenset({BUILTIN_GROUP, FUNCTION_GROUP})
_SEQUENCE_FUNCTIONS: Mapping[str, Operation] = {
    NEXT_SEQUENCE_VALUE: Operation.UPDATE,
    SEQUENCE_STATE: Operation.READ,
}
_GRAPH_TYPES = frozenset({type_pb2.TYPE_GRAPH_ELEMENT, type_pb2.TYPE_GRAPH_PATH})
_TYPES_WITH_PARTS = _GRAPH_TYPES | {type_pb2.TYPE_STRUCT, type_pb2.TYPE_JSON, type_pb2.TYPE_PROTO}


class NotUnderstood(Exception):
    """The tree holds something that this module does not understand; the message says what."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a statement does; the tables of those of its subqueries that use names from around them, and whether such a
    name may be one that has parts: a structure, a JSON value, an element of a graph.
    """

    accesses: tuple[Access, ...]
    inner: frozenset[str] = frozenset()
    parts: bool = False


def accesses_of(statement: Node, names: Names | Schema) -> tuple[Access, ...]:
    """What `statement`, an AnyResolvedStatementProto, does to what has `names`; raises as `reading_of`."""
    return reading_of(statement, names).accesses


def reading_of(statement: Node, names: Names | Schema) -> Reading:
    """How `statement`, an AnyResolvedStatementProto, is to be read by what has `names`.

    Raises NotUnderstood, also for calls of functions that the schema defines; BadMessage.
    """
    walk = _Walk(names_of(names) if isinstance(names, Schema) else names)
    nodes = list(statement.children())
    if len(nodes) != 1:
        raise NotUnderstood("there is no statement")
    node = nodes[0]
    match node.name:
        case "ResolvedQueryStmtProto":
            walk.children(node)
        case "ResolvedInsertStmtProto":
            _insert(node, walk)
        case "ResolvedUpdateStmtProto":
            _update(node, walk)
        case "ResolvedDeleteStmtProto":
            _delete(node, walk)
        case kind:
            raise NotUnderstood(f"`{_plain(kind)}` is not supported")
    inner, parts = walk.correlated()
    return Reading(merged([*walk.found, *walk.of_graphs()]), inner, parts)


class _Walk:
    """Goes through a tree and collects the accesses."""

    def __init__(self, names: Names) -> None:
        self.found: list[Access] = []
        self._names = names
        # Elements of graphs that are matched, properties that are read, and whether an element is used as a value.
        self._matched: list[Element] = []
        self._properties: set[str] = set()
        self._values = False
        self._correlated: list[Node] = []

    def children(self, node: Node, *, skip: tuple[str, ...] = ()) -> None:
        """Everything below `node` but the fields in `skip`, which the caller has dealt with."""
        todo = list(node.children(skip=skip, leaves=LEAVES))
        while todo:
            item = todo.pop()
            if item.name == "ResolvedTableScanProto":
                relation, columns = self.relation_of(item)
                self.found += relation.read(columns.values())
            elif item.name == "ResolvedFunctionCallBaseProto":
                self._function(item)
            elif item.name == "ResolvedTVFScanProto":
                self._table_function(item)
            elif item.name == "ResolvedGraphElementScanProto":
                self._match(item)
            elif item.name == "ResolvedGraphGetElementPropertyProto":
                todo.extend(self._property(item))
                continue
            elif item.name == "ResolvedColumnRefProto":
                self._values = self._values or _is_of_graph(item.message("parent").message("type"))
            elif item.name == "ResolvedOutputColumnProto":
                self._values = self._values or _is_of_graph(item.message("column").message("type"))
            elif item.name not in UNDERSTOOD:
                raise NotUnderstood(f"`{_plain(item.name)}` is not supported")
            elif item.name == "ResolvedSubqueryExprProto" and item.has("parameter_list"):
                self._correlated.append(item)
            todo.extend(item.children(leaves=LEAVES))

    def add(self, operation: Operation, table: Table, columns: Iterable[str] = ()) -> None:
        self.found.append(Access(operation, table.name, tuple(columns)))

    def relation_of(self, scan: Node) -> tuple[Relation, dict[int, str]]:
        """What `scan` reads, and its columns by their number in this statement."""
        reference = scan.message("table")
        number, name = reference.number("serialization_id"), reference.text("full_name")
        if not 0 <= number < len(self._names.relations) or self._names.relations[number].table.name != name:
            raise NotUnderstood(f"the table `{name}` is not in the schema")
        relation = self._names.relations[number]
        table = relation.table
        if scan.number("read_as_row_type") or scan.has("table_column_list"):
            raise NotUnderstood("reading a table as a row type is not supported")
        indexes = scan.numbers("column_index_list")
        columns = scan.message("parent").messages("column_list")
        if len(indexes) != len(columns):
            raise NotUnderstood(f"the scan of `{table.name}` does not say which columns it reads")
        found: dict[int, str] = {}
        for index, column in zip(indexes, columns, strict=True):
            name = table.columns[index].name if 0 <= index < len(table.columns) else ""
            if name != column.text("name"):
                raise NotUnderstood(f"the scan of `{table.name}` contradicts itself about `{column.text('name')}`")
            found[column.number("column_id")] = name
        return relation, found

    def table_of(self, scan: Node) -> tuple[Table, dict[int, str]]:
        """The same for a table, which can be written to."""
        relation, columns = self.relation_of(scan)
        if relation.origin is not Origin.TABLE:
            raise NotUnderstood(f"`{relation.table.name}` is not a table and cannot be written to")
        return relation.table, columns

    def target(self, statement: Node) -> tuple[Table, dict[int, str], set[str]]:
        """The table that DML writes to, its columns by number, and those it writes; what it reads is noted."""
        scan = statement.message("table_scan")
        table, columns = self.table_of(scan)
        self.children(scan)
        uses = statement.numbers("column_access_list")
        if len(uses) != len(columns):
            raise _unclear(table)
        used = list(zip(columns.values(), uses, strict=True))
        if read := [name for name, use in used if use in _READS]:
            self.add(Operation.READ, table, read)
        return table, columns, {name for name, use in used if use in _WRITES}

    def of_graphs(self) -> list[Access]:
        """What matching elements and reading properties means, once the whole statement is known."""
        if self._values:
            return [element.read_completely() for element in self._matched]
        return [element.read(self._properties) for element in self._matched]

    def correlated(self) -> tuple[frozenset[str], bool]:
        """`inner` and `parts` of the Reading. A subquery in a subquery is looked at with the outer one."""
        types = (
            one.message("parent").message("type")
            for node in self._correlated
            for one in node.messages("parameter_list")
        )
        parts = any(type_.number("type_kind") in _TYPES_WITH_PARTS for type_ in types)
        tables: set[str] = set()
        todo = list(self._correlated)
        while todo:
            item = todo.pop()
            if item.name == "ResolvedTableScanProto":
                relation, _ = self.relation_of(item)
                if relation.origin is Origin.TABLE:
                    tables.add(relation.table.name)
            todo.extend(item.children(leaves=LEAVES))
        return frozenset(tables), parts

    def _match(self, scan: Node) -> None:
        for reference in scan.messages("target_element_table_list"):
            graph, name = reference.message("property_graph").text("full_name"), reference.text("name")
            elements = [
                one.elements[name.lower()]
                for one in self._names.graphs
                if one.name.lower() == graph.lower() and name.lower() in one.elements
            ]
            if len(elements) != 1:
                raise NotUnderstood(f"`{name}` is not in the graph `{graph}`")
            self._matched += elements

    def _property(self, node: Node) -> list[Node]:
        """Notes the property; what is left to look at of the element that has it: nothing, if it is just a name."""
        name = node.message("property").text("name")
        if node.has("property_name") or not name:
            raise NotUnderstood("a property whose name is not known is not supported")
        self._properties.add(name.lower())
        return [one for one in node.message("expr").children() if one.name != "ResolvedColumnRefProto"]

    def _function(self, call: Node) -> None:
        group, _, name = call.message("function").text("name").partition(":")
        if group not in _FUNCTION_GROUPS or name.lower() in self._names.refused_functions:
            raise NotUnderstood(f"the function `{name or group}` is not supported")
        for argument in call.messages("generic_argument_list"):
            if not argument.has("sequence"):
                continue
            # ZetaSQL says the sequence's name without its schema.
            said = argument.message("sequence").message("sequence").text("full_name")
            sequences = [one for one in self._names.sequences if one.rpartition(".")[2] == said]
            operation = _SEQUENCE_FUNCTIONS.get(name.lower()) if group == FUNCTION_GROUP else None
            if operation is None or not sequences:
                raise NotUnderstood(f"the sequence `{said}` is not supported here")
            if len(sequences) > 1:
                raise NotUnderstood(f"`{said}` is the name of several sequences: {', '.join(sorted(sequences))}")
            self.found.append(Access(operation, sequences[0]))

    def _table_function(self, scan: Node) -> None:
        """A change stream or a prediction; what their arguments read stands in the scans below."""
        name = scan.message("tvf").text("name")
        arguments = scan.messages("argument_list")
        models = [argument.message("model").message("model") for argument in arguments if argument.has("model")]
        stream = self._names.streams.get(name.lower())
        if name.lower() in self._names.refused_functions:
            raise NotUnderstood(f"the table function `{name}` is not supported")
        if stream is not None and not models:
            self.found.append(Access(Operation.READ, stream))
        elif name == PREDICT and len(models) == 1:
            number = models[0].number("serialization_id")
            if not 0 <= number < len(self._names.models):
                raise NotUnderstood(f"the model `{models[0].text('name')}` is not in the schema")
            self.found.append(Access(Operation.EXECUTE, self._names.models[number].name))
        else:
            raise NotUnderstood(f"the table function `{name}` is not supported")


def _is_of_graph(type_: Node) -> bool:
    """Whether a value of that type is, or holds, an element or a path of a graph."""
    todo = [type_]
    while todo:
        node = todo.pop()
        if node.name == "TypeProto" and node.number("type_kind") in _GRAPH_TYPES:
            return True
        todo += node.children()
    return False


def _insert(node: Node, walk: _Walk) -> None:
    table, columns, written = walk.target(node)
    inserted = _named(node.messages("insert_column_list"), columns)
    updated: set[str] | None = None
    match node.number("insert_mode"):
        case enums.ResolvedInsertStmtEnums.OR_ERROR | enums.ResolvedInsertStmtEnums.OR_IGNORE:
            pass
        case enums.ResolvedInsertStmtEnums.OR_UPDATE:
            key = {name.lower() for name in table.primary_key}
            updated = {name for name in inserted if name.lower() not in key}
        case _:
            raise NotUnderstood("`INSERT OR REPLACE` is not supported")
    if node.has("on_conflict_clause"):
        clause = node.message("on_conflict_clause")
        _on_conflict(clause, table, walk)
        if clause.number("conflict_action") == enums.ResolvedOnConflictClauseEnums.UPDATE:
            updated = _targets(clause.messages("update_item_list"), columns)
    if written != inserted | (updated or set()):
        raise _unclear(table)
    walk.add(Operation.INSERT, table, inserted)
    if updated is not None:
        walk.add(Operation.UPDATE, table, updated)
    walk.children(node, skip=("table_scan", "on_conflict_clause"))


def _on_conflict(clause: Node, table: Table, walk: _Walk) -> None:
    """`ON CONFLICT`. `excluded` is the row that was to be inserted: its scan reads no table."""
    if clause.has("insert_row_scan"):
        excluded = clause.message("insert_row_scan")
        if walk.table_of(excluded)[0] is not table:
            raise NotUnderstood("`ON CONFLICT` over another table is not supported")
        walk.children(excluded)
    if clause.text("unique_constraint_name"):
        raise NotUnderstood("`ON CONFLICT ON UNIQUE CONSTRAINT` is not supported; name the columns")
    walk.children(clause, skip=("insert_row_scan",))


def _update(node: Node, walk: _Walk) -> None:
    table, columns, written = walk.target(node)
    updated = _targets(node.messages("update_item_list"), columns)
    if written != updated:
        raise _unclear(table)
    walk.add(Operation.UPDATE, table, updated)
    walk.children(node, skip=("table_scan",))


def _delete(node: Node, walk: _Walk) -> None:
    table, _, written = walk.target(node)
    if written:
        raise _unclear(table)
    walk.add(Operation.DELETE, table)
    walk.children(node, skip=("table_scan",))


def _targets(items: Iterable[Node], columns: dict[int, str]) -> set[str]:
    """The columns that update items set; only whole columns of the table can be set."""
    targets = []
    for item in items:
        target = list(item.message("target").children())
        if [one.name for one in target] != ["ResolvedColumnRefProto"]:
            raise NotUnderstood("setting a part of a column is not supported")
        targets.append(target[0].message("column"))
    return _named(targets, columns)


def _named(targets: Iterable[Node], columns: dict[int, str]) -> set[str]:
    found: set[str] = set()
    for column in targets:
        name = columns.get(column.number("column_id"))
        if name is None:
            raise NotUnderstood(f"`{column.text('name')}` is not a column of the table")
        found.add(name)
    return found


def _unclear(table: Table) -> NotUnderstood:
    return NotUnderstood(f"it is not clear which columns of `{table.name}` are written")


def _plain(name: str) -> str:
    """`ResolvedTVFScanProto` -> `TVFScan`."""
    return name.removeprefix("Any").removeprefix("Resolved").removesuffix("Proto")
