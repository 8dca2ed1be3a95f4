"""What is inside of the definitions of views and models.

Rules: a definition is one DDL statement, as `SchemaObject.definition` keeps it. What cannot be found is left out:
nobody can then name it.
Not here: DDL as a whole (ddl.py), what views read (googlesql.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from spangate.model.schema import SchemaObject
from spangate.sql.ddl_cursor import Cursor
from spangate.sql.ddl_tokens import DdlError, Kind, Token, tokens_of


@dataclass(frozen=True, slots=True)
class Model:
    """A model and the columns that predicting with it adds: name and type text."""

    name: str
    outputs: tuple[tuple[str, str], ...] = ()


def security(cursor: Cursor) -> bool:
    """Takes `SQL SECURITY {INVOKER|DEFINER} AS`, after a view's name; whether it is DEFINER. Raises DdlError."""
    cursor.words("SQL", "SECURITY")
    definer = cursor.try_words("DEFINER")
    if not definer:
        cursor.words("INVOKER")
    cursor.words("AS")
    return definer


def view_query(view: SchemaObject) -> str:
    """The query of `CREATE [OR REPLACE] VIEW name SQL SECURITY ... AS query`. Raises DdlError."""
    tokens = tokens_of(view.definition)
    cursor = Cursor(tokens)
    cursor.words("CREATE")
    cursor.try_words("OR", "REPLACE")
    cursor.words("VIEW")
    cursor.try_words("IF", "NOT", "EXISTS")
    cursor.path("a view name")
    security(cursor)
    return view.definition[cursor.token.start :]


def model_of(model: SchemaObject) -> Model:
    """`CREATE MODEL name [INPUT (...)] OUTPUT (name type [OPTIONS (...)], ...) ...`."""
    try:
        tokens = tokens_of(model.definition)
    except DdlError:
        return Model(model.name)
    depth = 0
    for at, token in enumerate(tokens):
        depth += token.is_symbol("(") - token.is_symbol(")")
        if not depth and token.is_word("OUTPUT") and tokens[at + 1].is_symbol("("):
            return Model(model.name, tuple(_columns(model.definition, tokens[at + 2 :])))
    return Model(model.name)


def _columns(text: str, tokens: list[Token]) -> Iterator[tuple[str, str]]:
    """`name type [OPTIONS (...)], ...)`: names and types, up to the parenthesis that closes them."""
    column: list[Token] = []
    depth = 0
    for token in tokens:
        depth += (token.is_symbol("(") or token.is_symbol("<")) - (token.is_symbol(")") or token.is_symbol(">"))
        ends = depth < 0 or token.kind is Kind.END
        if not ends and (depth or not token.is_symbol(",")):
            column.append(token)
            continue
        options = next((at for at, one in enumerate(column) if one.is_word("OPTIONS") and at > 1), len(column))
        if options > 1:
            yield column[0].text, text[column[1].start : column[options - 1].end]
        if ends:
            return
        column = []
