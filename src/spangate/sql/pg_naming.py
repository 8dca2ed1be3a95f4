"""What a result column is called that has no AS: FigureColname of PostgreSQL (parse_target.c).

Rules: the name decides which column an outer query means, so it is PostgreSQL's exactly.
Not here: anything that is read.
"""

from __future__ import annotations

from spangate.sql.pg_parse import Node, only, strings
from spangate.sql.pg_scope import NotReadable

UNNAMED = "?column?"

# How much a name is worth: a cast names its column only if what is cast does not, or only weakly.
_NONE, _WEAK, _STRONG = 0, 1, 2

_FIXED = {
    "A_ArrayExpr": "array",
    "CoalesceExpr": "coalesce",
    "GroupingFunc": "grouping",
    "RowExpr": "row",
}
_SUBLINKS = {"EXISTS_SUBLINK": "exists", "ARRAY_SUBLINK": "array"}


def column_name(node: Node) -> str:
    """The name of the result column whose expression is `node`."""
    return _figure(node)[1] or UNNAMED


def _figure(node: Node) -> tuple[int, str]:  # noqa: C901 - one line for each kind of node
    """(worth, name). Loops where PostgreSQL recurses; `outer` are the weak names of what is around."""
    outer: list[str] = []
    while True:
        kind, body = only(node)
        match kind:
            case "TypeCast":
                outer.append(list(strings(body["typeName"]["names"]))[-1])
                node = body["arg"]
                continue
            case "CaseExpr" if "defresult" in body:
                outer.append("case")
                node = body["defresult"]
                continue
            case "CollateClause" | "A_Indirection":
                node = body["arg"]
                continue
            case "CaseExpr":
                found = (_WEAK, "case")
            case "ColumnRef":
                found = (_STRONG, list(strings(one for one in body["fields"] if "String" in one))[-1])
            case "FuncCall":
                found = (_STRONG, list(strings(body["funcname"]))[-1])
            case "A_Expr" if body.get("kind") == "AEXPR_NULLIF":
                found = (_STRONG, "nullif")
            case "MinMaxExpr":
                found = (_STRONG, "least" if body.get("op") == "IS_LEAST" else "greatest")
            case "SQLValueFunction":
                found = (_STRONG, body["op"].removeprefix("SVFOP_").lower().removesuffix("_n"))
            case "SubLink":
                found = _of_subquery(body)
            case _:
                found = (_STRONG, _FIXED[kind]) if kind in _FIXED else (_NONE, "")
        if found[0] < _STRONG and outer:
            return _WEAK, outer[0]
        return found


def _of_subquery(body: Node) -> tuple[int, str]:
    if body["subLinkType"] in _SUBLINKS:
        return _STRONG, _SUBLINKS[body["subLinkType"]]
    if body["subLinkType"] != "EXPR_SUBLINK":
        return _NONE, ""
    query = only(body["subselect"])[1]
    while "larg" in query:
        query = query["larg"]
    if "valuesLists" in query:
        return _STRONG, "column1"
    target = query.get("targetList", [{"ResTarget": {}}])[0]["ResTarget"]
    if "val" not in target or "A_Star" in only(target["val"])[1].get("fields", [{}])[-1]:
        raise NotReadable("a subquery's column has no certain name; give it one with AS", body)
    return _STRONG, target.get("name") or column_name(target["val"])
