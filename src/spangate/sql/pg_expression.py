"""PostgreSQL expressions -> what they read.

Rules: a kind of node, or a field of one, that is not listed here makes the statement unreadable. Everything below an
expression counts, however deep; nothing here recurses but into subqueries. Whoever calls a function that is not listed
in pg_functions.py, or casts to a type that is not, is refused.
Not here: which column a name means (pg_scope.py), subqueries (pg_query.py).
"""

from __future__ import annotations

from collections.abc import Callable

from spangate.model.access import Operation
from spangate.model.schema import ObjectKind, Schema
from spangate.sql.pg_functions import (
    CAST_TYPES,
    CATALOG_FUNCTIONS,
    CATALOG_TYPES,
    FUNCTIONS,
    SPANNER_FUNCTIONS,
    SPANNER_TYPES,
    TYPES,
)
from spangate.sql.pg_parse import Node, only, strings
from spangate.sql.pg_scope import Level, NotReadable, Output, Reads, read_name, read_qualified, relation_called

# "Query parameters per statement: 950" (https://cloud.google.com/spanner/quotas#query-limits).
PARAMETERS_MAX = 950

# Node -> fields below which there are expressions, and fields that say nothing about what is read.
_EXPRESSIONS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "A_ArrayExpr": (("elements",), ("list_start", "list_end")),
    "A_Const": ((), ("isnull", "ival", "fval", "boolval", "sval", "bsval")),
    "A_Expr": (("lexpr", "rexpr"), ("kind", "name", "rexpr_list_start", "rexpr_list_end")),
    "A_Indices": (("lidx", "uidx"), ("is_slice",)),
    "A_Indirection": (("arg", "indirection"), ()),
    "BoolExpr": (("args",), ("boolop",)),
    "BooleanTest": (("arg",), ("booltesttype",)),
    "CaseExpr": (("arg", "args", "defresult"), ()),
    "CaseWhen": (("expr", "result"), ()),
    "CoalesceExpr": (("args",), ()),
    "CollateClause": (("arg",), ("collname",)),
    "GroupingFunc": (("args",), ()),
    "GroupingSet": (("content",), ("kind",)),
    "List": (("items",), ()),
    "MinMaxExpr": (("args",), ("op",)),
    "MultiAssignRef": (("source",), ("colno", "ncolumns")),
    "NamedArgExpr": (("arg",), ("name", "argnumber")),
    "NullTest": (("arg",), ("nulltesttype", "argisrow")),
    "ParamRef": ((), ("number",)),
    "RowExpr": (("args",), ("row_format",)),
    "SQLValueFunction": ((), ("op", "typmod")),
    "SetToDefault": ((), ()),
    "SortBy": (("node",), ("sortby_dir", "sortby_nulls")),
    "TypeCast": (("arg",), ("typeName",)),
    "WindowDef": (
        ("partitionClause", "orderClause", "startOffset", "endOffset"),
        ("name", "refname", "frameOptions"),
    ),
}
_CALL = (
    ("args", "agg_order", "agg_filter", "over"),
    ("funcname", "agg_within_group", "agg_star", "agg_distinct", "func_variadic", "funcformat"),
)
_SUBLINKS = frozenset({"EXISTS_SUBLINK", "ALL_SUBLINK", "ANY_SUBLINK", "EXPR_SUBLINK", "ARRAY_SUBLINK"})
# Fields whose value is a structure of a kind that the grammar fixes and therefore does not name.
_UNNAMED = {"over": "WindowDef"}
_PLACE = "location"


def plain_fields(kind: str, body: Node, known: tuple[str, ...]) -> None:
    """Raise NotReadable unless all fields of `body` are `known`."""
    for name in body:
        if name not in known and name != _PLACE:
            raise NotReadable(f"`{name}` of {kind} is not supported", body)


class Expressions:
    """Reads expressions; `query` reads a subquery in the view of a level."""

    def __init__(self, schema: Schema, reads: Reads, query: Callable[[Node, Level], Output]) -> None:
        self._schema = schema
        self._reads = reads
        self._query = query
        self._parameters: set[int] = set()

    def read(self, node: Node | list[Node] | None, level: Level) -> None:
        """Everything that `node`, or each of these nodes, reads."""
        todo: list[Node] = _nodes(node)
        while todo:
            kind, body = only(todo.pop())
            if kind == "ColumnRef":
                self._column(body, level)
            elif kind == "SubLink":
                todo += self._subquery(body, level)
            else:
                if kind == "FuncCall":
                    below, plain = self._call(body)
                else:
                    below, plain = self._node(kind, body)
                plain_fields(kind, body, below + plain)
                for name in below:
                    if name in body:
                        todo += [{_UNNAMED[name]: body[name]}] if name in _UNNAMED else _nodes(body[name])

    def function(self, body: Node) -> tuple[str, str]:
        """Schema (`pg_catalog` or `spanner`) and name of the function that a FuncCall calls, if it may be called."""
        schema, name = _path(body["funcname"], "pg_catalog", "the function", body)
        if schema == "pg_catalog" and name in CATALOG_FUNCTIONS:
            self._reads.add(Operation.INFORMATION_SCHEMA, "")
            return schema, name
        allowed = {"pg_catalog": FUNCTIONS, "spanner": SPANNER_FUNCTIONS}.get(schema, frozenset())
        shown = name if schema == "pg_catalog" else f"{schema}.{name}"
        if name not in allowed or {name, shown} & set(self._schema.functions):
            raise NotReadable(f"the function `{shown}` is not supported", body)
        return schema, name

    def _node(self, kind: str, body: Node) -> tuple[tuple[str, ...], tuple[str, ...]]:
        fields = _EXPRESSIONS.get(kind)
        if fields is None:
            raise NotReadable(f"`{kind}` is not supported", body)
        if kind == "ParamRef":
            self._parameters.add(body.get("number", 0))
            if len(self._parameters) > PARAMETERS_MAX:
                raise NotReadable(f"the statement has more than {PARAMETERS_MAX} parameters", body)
        elif kind == "TypeCast":
            self._type(body["typeName"], body)
        elif kind == "A_Expr":
            _path(body["name"], "pg_catalog", "the operator", body)
        elif kind == "A_Indirection" and any(only(one)[0] != "A_Indices" for one in body["indirection"]):
            raise NotReadable("taking a field out of a row is not supported", body)
        return fields

    def _call(self, body: Node) -> tuple[tuple[str, ...], tuple[str, ...]]:
        schema, name = _path(body["funcname"], "pg_catalog", "the function", body)
        sequence = {
            ("pg_catalog", "nextval"): Operation.UPDATE,
            ("spanner", "get_internal_sequence_state"): Operation.READ,
        }.get((schema, name))
        if sequence is None:
            self.function(body)
            return _CALL
        if name in self._schema.functions:
            raise NotReadable(f"the function `{name}` is not supported", body)
        self._reads.add(sequence, self._sequence(name, body))
        return (), ("args", *_CALL[1])

    def _sequence(self, function: str, body: Node) -> str:
        """The sequence that a call names: only a literal says which."""
        arguments = body.get("args", ())
        value = only(arguments[0]) if len(arguments) == 1 else ("", {})
        if value[0] == "TypeCast" and list(strings(value[1]["typeName"]["names"]))[-1] == "regclass":
            value = only(value[1]["arg"])
        if value[0] != "A_Const" or "sval" not in value[1]:
            raise NotReadable(f"`{function}` is supported for a sequence that is written as a text", body)
        text = value[1]["sval"].get("sval", "")
        name = ".".join(
            part[1:-1] if part[:1] == part[-1:] == '"' and len(part) > 1 else part.lower() for part in text.split(".")
        ).removeprefix("public.")
        found = self._schema.object(name)
        if found is None or found.kind is not ObjectKind.SEQUENCE or found.name != name:
            raise NotReadable(f"there is no sequence `{text[:128]}`", body)
        return found.name

    def _type(self, type_name: Node, body: Node) -> None:
        schema, name = _path(type_name["names"], "", "the type", body)
        if schema in {"", "pg_catalog"}:
            if name in CATALOG_TYPES:
                self._reads.add(Operation.INFORMATION_SCHEMA, "")
                return
            if name in TYPES or name in CAST_TYPES:
                return
        elif schema == "spanner" and name in SPANNER_TYPES:
            return
        raise NotReadable(f"the type `{name}` is not supported", body)

    def _column(self, body: Node, level: Level) -> None:
        fields = body["fields"]
        if only(fields[-1])[0] == "A_Star":
            path = tuple(strings(fields[:-1]))
            if not path:
                raise NotReadable("`*` is not supported here", body)
            self._reads.row(relation_called(level, path, body))
            return
        names = tuple(strings(fields))
        if len(names) == 1:
            read_name(level, names[0], body, self._reads)
        else:
            read_qualified(level, names, body, self._reads)

    def _subquery(self, body: Node, level: Level) -> list[Node]:
        plain_fields("SubLink", body, ("subLinkType", "testexpr", "operName", "subselect"))
        if body["subLinkType"] not in _SUBLINKS:
            raise NotReadable("a subquery of this kind is not supported", body)
        self._query(body["subselect"], level)
        return _nodes(body.get("testexpr"))


def _nodes(value: Node | list[Node] | None) -> list[Node]:
    """The nodes that a field holds; the grammar writes `{}` for an element that is missing."""
    found = value if isinstance(value, list) else [value] if value else []
    return [one for one in found if one]


def _path(names: list[Node], default: str, what: str, body: Node) -> tuple[str, str]:
    """(schema, name) of a function, type or operator."""
    path = tuple(strings(names))
    if len(path) > 2:
        raise NotReadable(f"{what} `{'.'.join(path)}` is not supported", body)
    return (path[0], path[1]) if len(path) == 2 else (default, path[0])
