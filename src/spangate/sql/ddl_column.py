"""Columns as DDL defines them: types and clauses.

Rules: a type comes out in one spelling however it was written; expressions and options are checked for balance only,
they are Spanner's business.
Source: https://cloud.google.com/spanner/docs/reference/standard-sql/data-definition-language#create_table
Not here: tables and keys (ddl_table.py).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from spangate.model.schema import Column
from spangate.sql.ddl_cursor import Cursor
from spangate.sql.ddl_database import unknown
from spangate.sql.ddl_tokens import Kind, Token

_SIZED = ("STRING", "BYTES")
_UNSIZED = (
    "BOOL",
    "DATE",
    "FLOAT32",
    "FLOAT64",
    "INT64",
    "INTERVAL",
    "JSON",
    "NUMERIC",
    "TIMESTAMP",
    "TOKENLIST",
    "UUID",
)
_CLAUSES = ("NOT NULL", "DEFAULT", "AS", "GENERATED", "HIDDEN", "OPTIONS", "PRIMARY KEY")


@dataclass(frozen=True, slots=True)
class ParsedColumn:
    """A column, whether it is the primary key all by itself, and its place."""

    column: Column
    is_key: bool
    token: Token


def column_of(cursor: Cursor) -> ParsedColumn:
    """`name type [clauses]`."""
    token = cursor.name("a column name")
    column = Column(token.text, type_of(cursor))
    is_key = False
    while (clause := _clause(cursor)) is not None:
        match clause:
            case "NOT NULL":
                column = replace(column, not_null=True)
            case "GENERATED":
                column = replace(column, generated=True)
            case "HIDDEN":
                column = replace(column, hidden=True)
            case "PRIMARY KEY":
                is_key = True
            case _:
                pass
    return ParsedColumn(column, is_key, token)


def type_of(cursor: Cursor) -> str:
    """A column's type in Spanner's spelling: `STRING(MAX)`, `ARRAY<INT64>`; protocol buffers keep their own."""
    first = cursor.token
    if cursor.try_words("ARRAY"):
        cursor.symbol("<")
        if cursor.token.is_word("ARRAY"):
            raise cursor.token.error("an array cannot hold arrays")
        element = type_of(cursor)
        cursor.symbol(">")
        return f"ARRAY<{element}>{_vector_length(cursor)}"
    if first.is_word("STRUCT"):
        raise first.error("a column cannot be a STRUCT")
    if first.is_word(*_SIZED):
        cursor.next()
        return f"{first.text.upper()}({_size(cursor)})"
    if first.is_word(*_UNSIZED):
        return cursor.next().text.upper()
    return _message_type(cursor)


def skip_value(cursor: Cursor) -> bool:
    """Takes what gives a column its value or describes it, if it stands here; the caller need not know which."""
    if cursor.try_words("DEFAULT") or cursor.try_words("ON", "UPDATE") or cursor.try_words("OPTIONS"):
        cursor.skip_parentheses()
        return True
    return False


def skip_generation(cursor: Cursor) -> bool:
    """Takes `AS (expression) [STORED]`, if it stands here."""
    if found := cursor.try_words("AS"):
        cursor.skip_parentheses()
        cursor.try_words("STORED")
    return found


def _clause(cursor: Cursor) -> str | None:
    """Takes one clause of a column definition and says which, or None at its end."""
    token = cursor.token
    if token.kind is Kind.END or token.is_symbol(",") or token.is_symbol(")"):
        return None
    if cursor.try_words("NOT"):
        cursor.words("NULL")
        return "NOT NULL"
    if cursor.try_words("PRIMARY"):
        cursor.words("KEY")
        return "PRIMARY KEY"
    if cursor.try_words("HIDDEN"):
        return "HIDDEN"
    if skip_generation(cursor):
        return "GENERATED"
    if cursor.try_words("GENERATED"):
        cursor.words("BY", "DEFAULT", "AS", "IDENTITY")
        # Not GENERATED for us: whoever writes the row may give a value.
        if cursor.token.is_symbol("("):
            cursor.skip_parentheses()
        return "IDENTITY"
    if skip_value(cursor) or cursor.try_words("AUTO_INCREMENT") or cursor.try_words("PLACEMENT", "KEY"):
        return "OTHER"
    raise cursor.expected([clause.split()[0] for clause in _CLAUSES], f"`,`, `)` or one of {', '.join(_CLAUSES)}")


def _size(cursor: Cursor) -> str:
    cursor.symbol("(")
    token = cursor.next()
    if token.is_word("MAX"):
        size = "MAX"
    else:
        if not (number := _whole_number(token)):
            raise token.error(f"expected a length or MAX, found {token}")
        size = str(number)
    cursor.symbol(")")
    return size


def _vector_length(cursor: Cursor) -> str:
    """`(vector_length=>128)` behind an array type."""
    if not (cursor.token.is_symbol("(") and cursor.ahead(1).is_word("VECTOR_LENGTH")):
        return ""
    cursor.symbol("(")
    cursor.words("VECTOR_LENGTH")
    cursor.symbol("=>")
    token = cursor.next()
    if (number := _whole_number(token)) is None:
        raise token.error(f"expected a length, found {token}")
    cursor.symbol(")")
    return f"(VECTOR_LENGTH=>{number})"


def _whole_number(token: Token) -> int | None:
    if token.kind is not Kind.NUMBER:
        return None
    if token.text[:2].lower() == "0x":
        return int(token.text, 16)
    return int(token.text) if token.text.isdigit() else None


def _message_type(cursor: Cursor) -> str:
    """The name of a protocol buffer message or enumeration: `package.Name`, quoted as a whole, in parts or not at all.

    A bare word is taken for a misspelt type of Spanner: protocol buffers without a package are rare, typos are not.
    """
    first = cursor.next()
    parts = [first]
    while cursor.try_symbol("."):
        parts.append(cursor.next())
    name = ".".join(part.text for part in parts)
    if any(part.kind not in {Kind.WORD, Kind.QUOTED_NAME} for part in parts):
        raise first.error(f"expected a type, found {first}")
    if not all(part.isidentifier() and part.isascii() for part in name.split(".")):
        raise first.error(f"`{name}` is not a type")
    if len(parts) == 1 and first.kind is Kind.WORD:
        raise unknown("type", first, name, (*_SIZED, *_UNSIZED, "ARRAY"))
    return name
