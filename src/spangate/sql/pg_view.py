"""A view's definition -> its query. `SQL SECURITY ...` is Spanner's own, and cut out by token.

Not here: what the query reads (pg_query.py), views among the other statements of a schema (pg_ddl.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from spangate.sql.pg_parse import Node, PgSyntaxError, check_names, only, tokens_of, trees_of


@dataclass(frozen=True, slots=True)
class ViewText:
    """A CREATE VIEW as PostgreSQL takes it, as long as the original; `definer` is None if it does not say it."""

    text: str
    definer: bool | None


def view_text(definition: str) -> ViewText:
    """CREATE VIEW without `SQL SECURITY INVOKER` or `DEFINER`, blanks instead. Raises PgSyntaxError."""
    tokens = [token for token in tokens_of(definition) if token.name not in {"SQL_COMMENT", "C_COMMENT"}]
    check_names(definition, tokens)
    words = [definition[token.start : token.end + 1].upper() for token in tokens]
    for at, word in enumerate(words):
        if word == "AS":
            break
        if word == "SQL" and words[at + 1 : at + 2] == ["SECURITY"] and len(words) > at + 2:
            start, end = tokens[at].start, tokens[at + 2].end + 1
            if words[at + 2] not in {"INVOKER", "DEFINER"}:
                raise PgSyntaxError("expected INVOKER or DEFINER", tokens[at + 2].start)
            text = definition[:start] + " " * (end - start) + definition[end:]
            return ViewText(text, words[at + 2] == "DEFINER")
    return ViewText(definition, None)


def view_query(definition: str) -> Node:
    """The SELECT of a view's definition. Raises PgSyntaxError."""
    trees = trees_of(view_text(definition).text)
    kind, body = only(trees[0]) if len(trees) == 1 else ("", {})
    if kind != "ViewStmt" or body.get("aliases") or body.get("options"):
        raise PgSyntaxError("the view's definition is not understood")
    query: Node = body["query"]
    return query
