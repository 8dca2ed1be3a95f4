"""Property graphs: which tables and columns stand behind their elements.

Rules: ZetaSQL resolves CREATE PROPERTY GRAPH; its result says what the graph is made of, and is what the catalog gets.
A graph of something else than tables and their columns (views, dynamic labels or properties, subqueries) is left out:
nobody can then name it.
- An element that is matched reads the key of its table, and of an edge the columns that lead to its ends.
- A property reads the columns of its expression, in every table that is matched and has a property of that name.
- An element as a value (`TO_JSON(n)`) reads all properties of every table that is matched, whichever they are.
Source: https://cloud.google.com/spanner/docs/reference/standard-sql/graph-schema-statements
Not here: the walk through a query (tree.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from zetasql.wasi._pb2.zetasql.proto import simple_property_graph_pb2 as protos

from spangate.model.access import Access, Operation
from spangate.sql.wire import Node


class NotAGraph(Exception):
    """The graph holds something that cannot be carried over."""


@dataclass(frozen=True)
class Element:
    """A node or edge table: the columns that matching it reads, and those of each property by lower-case name."""

    table: str
    key: frozenset[str]
    properties: Mapping[str, frozenset[str]]

    def read(self, properties: Iterable[str]) -> Access:
        """Matching it, and reading those of the properties that it has."""
        columns = self.key.union(*(self.properties.get(name, frozenset()) for name in properties))
        return Access(Operation.READ, self.table, tuple(columns))

    def read_completely(self) -> Access:
        """It as a value."""
        return Access(Operation.READ, self.table, tuple(self.key.union(*self.properties.values())), every=True)


@dataclass(frozen=True)
class Graph:
    """A graph, its element tables by lower-case name, and itself as the catalog takes it."""

    name: str
    elements: Mapping[str, Element]
    encoded: bytes


class _Table:
    """An element table as ZetaSQL resolved it."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.name = node.text("alias")
        scan = next(node.message("input_scan").children(), node)
        if scan.name != "ResolvedTableScanProto":
            raise NotAGraph
        self.table = scan.message("table").text("full_name")
        columns = scan.message("parent").messages("column_list")
        self._index = {
            column.number("column_id"): (index, column.text("name"))
            for column, index in zip(columns, scan.numbers("column_index_list"), strict=True)
        }

    def columns(self, expressions: Iterable[Node]) -> list[tuple[int, str]]:
        """Index and name of the columns that these expressions name; each names one at least, and nothing else."""
        found = []
        todo = list(expressions)
        while todo:
            node = todo.pop(0)
            if node.name == "ResolvedColumnRefProto":
                column = self._index.get(node.message("column").number("column_id"))
                if column is None:
                    raise NotAGraph
                found.append(column)
            elif "Scan" in node.name or "Subquery" in node.name:
                raise NotAGraph
            else:
                todo += node.children(leaves=_LEAVES)
        return found

    def names(self, expressions: Iterable[Node]) -> frozenset[str]:
        return frozenset(name for _, name in self.columns(expressions))


_LEAVES = frozenset({"FunctionSignatureProto", "ResolvedColumnProto", "TypeProto", "ValueWithTypeProto"})


def graph_of(statement: Node) -> Graph:
    """The graph that a resolved CREATE PROPERTY GRAPH makes, an AnyResolvedStatementProto. Raises NotAGraph."""
    node = statement
    while node.name != "ResolvedCreatePropertyGraphStmtProto":
        found = next(node.children(), None)
        if found is None:
            raise NotAGraph
        node = found
    path = node.message("parent").texts("name_path")
    graph = protos.SimplePropertyGraphProto(name=path[-1], name_path=path)
    nodes = [_Table(one) for one in node.messages("node_table_list")]
    edges = [_Table(one) for one in node.messages("edge_table_list")]
    ends: dict[str, set[str]] = {}
    for table in nodes:
        _add_element(graph, graph.node_tables.add(kind=protos.SimpleGraphElementTableProto.NODE), table)
    for table in edges:
        proto = graph.edge_tables.add(kind=protos.SimpleGraphElementTableProto.EDGE)
        _add_element(graph, proto, table)
        _add_end(proto.source_node_table, table, "source_node_reference", nodes, ends)
        _add_end(proto.dest_node_table, table, "dest_node_reference", nodes, ends)
    for label in node.messages("label_list"):
        graph.labels.add(
            name=label.text("name"),
            property_graph_name_path=path,
            property_declaration_names=label.texts("property_declaration_name_list"),
        )
    for one in node.messages("property_declaration_list"):
        declaration = graph.property_declarations.add(name=one.text("name"), property_graph_name_path=path)
        declaration.type.ParseFromString(one.message("type").encoded)
    elements = {table.name.lower(): _element(table, ends.get(table.name, set())) for table in [*nodes, *edges]}
    return Graph(".".join(path), elements, graph.SerializeToString())


def _element(table: _Table, ends: Iterable[str]) -> Element:
    key = table.names(table.node.messages("key_list")).union(ends)
    for end in ("source_node_reference", "dest_node_reference"):
        key |= table.names(table.node.message(end).messages("edge_table_column_list"))
    properties = {
        one.text("property_declaration_name").lower(): table.names(one.messages("expr"))
        for one in table.node.messages("property_definition_list")
    }
    return Element(table.table, key, properties)


def _add_element(
    graph: protos.SimplePropertyGraphProto, proto: protos.SimpleGraphElementTableProto, table: _Table
) -> None:
    if table.node.has("dynamic_label") or table.node.has("dynamic_properties"):
        raise NotAGraph
    proto.name = table.name
    proto.property_graph_name_path.extend(graph.name_path)
    proto.input_table_name = table.table
    proto.key_columns.extend(index for index, _ in table.columns(table.node.messages("key_list")))
    proto.label_names.extend(table.node.texts("label_name_list"))
    for one in table.node.messages("property_definition_list"):
        proto.property_definitions.add(
            property_declaration_name=one.text("property_declaration_name"), value_expression_sql=one.text("sql")
        )


def _add_end(
    proto: protos.SimpleGraphNodeTableReferenceProto,
    edge: _Table,
    field: str,
    nodes: Iterable[_Table],
    ends: dict[str, set[str]],
) -> None:
    """One end of an edge; notes the columns of the node's table by which it is found."""
    reference = edge.node.message(field)
    node = next((one for one in nodes if one.name == reference.text("node_table_identifier")), None)
    if node is None:
        raise NotAGraph
    there = node.columns(reference.messages("node_table_column_list"))
    here = edge.columns(reference.messages("edge_table_column_list"))
    proto.node_table_name = node.name
    proto.edge_table_columns.extend(index for index, _ in here)
    proto.node_table_columns.extend(index for index, _ in there)
    ends.setdefault(node.name, set()).update(name for _, name in there)
