"""Tables and indexes of a PostgreSQL-dialect schema: as DDL creates them.

Rules: PostgreSQL's own tree says what is created; Spanner's clauses (INTERLEAVE IN, TTL, HIDDEN, VECTOR LENGTH,
LOCALITY GROUP, the options of an identity) are taken token by token before. What is not understood completely is
refused at its place, for a schema that is almost right would allow or deny the wrong thing. Names are looked up exactly
as they fold. What expressions say (defaults, checks, filters) is Spanner's business.
Source: https://cloud.google.com/spanner/docs/reference/postgresql/data-definition-language
Not here: later changes (pg_ddl_alter.py), other objects (pg_ddl.py), the grammar (pg_ddl_tokens.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from spangate.model.schema import Column, Index, Table
from spangate.sql.ddl_database import Database, check_room, unknown
from spangate.sql.ddl_tokens import DdlError, Kind, Token
from spangate.sql.pg_ddl_tokens import PUBLIC, PgCursor, Statement, check_name
from spangate.sql.pg_functions import SPANNER_TYPES, TYPES
from spangate.sql.pg_parse import Node, only, strings

# Relations of `pg_catalog` begin so, and come before those of `public`.
_CATALOG_PREFIX = "pg_"

_COLUMN = frozenset({"colname", "typeName", "constraints", "is_local", "location"})
_VALUES = frozenset({"CONSTR_NULL", "CONSTR_DEFAULT", "CONSTR_IDENTITY", "CONSTR_CHECK", "CONSTR_FOREIGN"})
_CONSTRAINTS = frozenset({"CONSTR_CHECK", "CONSTR_FOREIGN", "CONSTR_PRIMARY"})
_CREATE = frozenset({"relation", "tableElts", "oncommit", "if_not_exists"})
_INDEX = frozenset(
    {
        "idxname",
        "relation",
        "accessMethod",
        "indexParams",
        "indexIncludingParams",
        "unique",
        "whereClause",
        "if_not_exists",
    }
)
# Spanner's own clauses of a column, besides IDENTITY (...): first word and how many tokens.
_COLUMN_CLAUSES = {("hidden",): 1, ("vector", "length"): 3, ("locality", "group"): 3}


def create_table(statement: Statement, database: Database) -> None:
    """CREATE TABLE."""
    hidden = cut_clauses(statement, _columns_open(statement))
    _, body = statement.tree()
    first = statement.tokens[0]
    known_fields("CREATE TABLE", body, _CREATE, first)
    name, token = _relation(body["relation"], statement)
    if name.rpartition(".")[2].startswith(_CATALOG_PREFIX):
        raise token.error(f"`{name}` cannot be a table name: PostgreSQL's own tables begin with `{_CATALOG_PREFIX}`")
    free = database.is_free(name, token, may_exist=bool(body.get("if_not_exists")))
    table = Table(name, ())
    keys: list[tuple[str, ...]] = []
    constraints: list[Node] = []
    for node in body.get("tableElts", ()):
        kind, element = only(node)
        place = statement.token_of(element)
        if kind == "Constraint":
            constraints.append(element)
            continue
        if kind != "ColumnDef":
            raise place.error("this is not supported in CREATE TABLE")
        column, is_key, foreign = column_of(element, statement, hidden)
        if table.column(column.name) is not None:
            raise place.error(f"column `{column.name}` exists already")
        check_room(len(table.columns), place)
        table = replace(table, columns=(*table.columns, column))
        constraints += foreign
        if is_key:
            keys.append((column.name,))
    keys += [
        _columns(table, strings(element["keys"]), statement.token_of(element))
        for element in constraints
        if element["contype"] == "CONSTR_PRIMARY"
    ]
    if len(keys) != 1:
        raise token.error(f"table `{name}` needs exactly one primary key, found {len(keys) or 'none'}")
    for element in constraints:
        check_constraint(element, table, statement, database)
    columns = tuple(replace(one, not_null=one.not_null or one.name in keys[0]) for one in table.columns)
    table = replace(table, columns=columns, primary_key=keys[0], parent=_tail(statement, table, database))
    if free:
        database.put(table)


def create_index(statement: Statement, database: Database) -> None:
    """CREATE [UNIQUE] INDEX."""
    words = [token.text if token.kind is Kind.WORD else "" for token in statement.tokens]
    for number in range(len(words)):
        if words[number : number + 2] == ["interleave", "in"]:
            cursor = PgCursor(statement.tokens[number + 2 :])
            parent, token = cursor.path("a table name")
            table_named(database, parent, token)
            statement.cut(number, 3 if statement.tokens[number + 3].text != "." else 5)
        elif words[number : number + 2] == ["locality", "group"]:
            statement.cut(number, 3)
    kind, body = statement.tree()
    first = statement.tokens[0]
    if kind != "IndexStmt":
        raise first.error("expected CREATE INDEX")
    known_fields("CREATE INDEX", body, _INDEX, first)
    if body.get("accessMethod", "btree") != "btree" or "idxname" not in body:
        raise first.error("an index needs a name, and no USING")
    table = table_named(database, *_relation(body["relation"], statement))
    schema, dot, _ = table.name.rpartition(".")
    # An index lives in its table's schema.
    name = schema + dot + check_name(body["idxname"], first, "an index name")
    free = database.is_free(name, first, may_exist=bool(body.get("if_not_exists")))
    key = _columns(table, _elements(body["indexParams"], first), first)
    stored = _columns(table, _elements(body.get("indexIncludingParams", ()), first), first)
    if set(key) & set(stored):
        raise first.error("a column is in the key and included as well")
    if free:
        database.put(Index(name, table.name, key, stored))


def table_named(database: Database, name: str, token: Token) -> Table:
    """The table of exactly that name."""
    table = database.table(name, token)
    if table.name != name:
        raise unknown("table", token, name, [table.name])
    return table


def _columns_open(statement: Statement) -> int:
    """The number of the parenthesis that opens the columns; what stands behind the closing one is cut."""
    tokens = statement.tokens
    opened = next((number for number, token in enumerate(tokens) if token.is_symbol("(")), None)
    if opened is None:
        raise tokens[-1].error("expected the table's columns in parentheses")
    closed = _closing(tokens, opened)
    statement.cut(closed + 1, len(tokens) - closed - 2)
    return opened


def _tail(statement: Statement, table: Table, database: Database) -> str | None:
    """INTERLEAVE IN and TTL behind the columns: the parent."""
    opened = next(number for number, token in enumerate(statement.tokens) if token.is_symbol("("))
    cursor = PgCursor(statement.tokens[_closing(statement.tokens, opened) + 1 :])
    parent: str | None = None
    while cursor.token.kind is not Kind.END:
        if cursor.try_words("INTERLEAVE", "IN"):
            parent = interleave(cursor, database)
        elif cursor.at_words("TTL"):
            ttl(cursor, table)
        elif cursor.try_words("LOCALITY", "GROUP"):
            cursor.name("a locality group")
        else:
            raise cursor.expected(("INTERLEAVE", "TTL", "LOCALITY"), "INTERLEAVE IN, TTL or LOCALITY GROUP")
        cursor.try_symbol(",")
    return parent


def interleave(cursor: PgCursor, database: Database) -> str | None:
    """`[PARENT] table [ON DELETE ...]`: the parent, None where the tables only lie together."""
    is_parent = cursor.try_words("PARENT")
    parent = table_named(database, *cursor.path("a table name"))
    if cursor.try_words("ON", "DELETE") and not (cursor.try_words("CASCADE") or cursor.try_words("NO", "ACTION")):
        raise cursor.expected(("CASCADE", "NO"), "CASCADE or NO ACTION")
    return parent.name if is_parent else None


def ttl(cursor: PgCursor, table: Table) -> None:
    """`TTL INTERVAL '30 days' ON column`."""
    cursor.words("TTL", "INTERVAL")
    if cursor.token.kind is not Kind.STRING:
        raise cursor.token.error(f"expected an interval as a text, found {cursor.token}")
    cursor.next()
    cursor.words("ON")
    token = cursor.name("a column name")
    column_named(table, token.text, token)


def cut_clauses(statement: Statement, opened: int) -> set[str]:
    """Cuts Spanner's clauses out of the columns behind token `opened`; the names of hidden columns."""
    tokens, hidden = statement.tokens, set()
    number, first = opened + 1, opened + 1
    while number < len(tokens) - 1:
        token = tokens[number]
        if token.is_symbol(")"):
            break
        if token.is_symbol(","):
            first = number + 1
        elif token.is_word("IDENTITY") and tokens[number + 1].is_symbol("("):
            end = _closing(tokens, number + 1)
            statement.cut(number + 1, end - number)
            number = end
        elif token.is_symbol("("):
            number = _closing(tokens, number)
        elif number > first and (count := _own_clause(tokens, number)):
            statement.cut(number, count)
            if token.is_word("HIDDEN"):
                hidden.add(tokens[first].text)
            number += count - 1
        number += 1
    return hidden


def _own_clause(tokens: list[Token], number: int) -> int:
    """How many tokens a clause has that is Spanner's own and begins here; 0 if none does."""
    for words, count in _COLUMN_CLAUSES.items():
        if all(tokens[min(number + at, len(tokens) - 1)].is_word(word.upper()) for at, word in enumerate(words)):
            return count
    return 0


def _closing(tokens: list[Token], opened: int) -> int:
    depth = 0
    for number in range(opened, len(tokens)):
        depth += tokens[number].is_symbol("(") - tokens[number].is_symbol(")")
        if depth == 0:
            return number
    raise tokens[opened].error("this parenthesis is not closed")


def column_of(body: Node, statement: Statement, hidden: set[str]) -> tuple[Column, bool, list[Node]]:
    """A column, whether it is the primary key, and its foreign keys as constraints of the table."""
    token = statement.token_of(body)
    known_fields("a column", body, _COLUMN, token)
    name = check_name(body["colname"], token, "a column name")
    column = Column(name, type_of(body["typeName"], token), hidden=name in hidden)
    is_key = False
    foreign: list[Node] = []
    for node in body.get("constraints", ()):
        constraint = node["Constraint"]
        kind = constraint["contype"]
        if kind == "CONSTR_PRIMARY":
            is_key = True
        elif kind == "CONSTR_NOTNULL":
            column = replace(column, not_null=True)
        elif kind == "CONSTR_GENERATED":
            column = replace(column, generated=True)
        elif kind not in _VALUES:
            raise statement.token_of(constraint).error("this clause of a column is not supported")
        if kind == "CONSTR_FOREIGN":
            foreign.append({**constraint, "fk_attrs": [{"String": {"sval": name}}]})
    return column, is_key, foreign


def check_constraint(body: Node, table: Table, statement: Statement, database: Database) -> None:
    """Looks the names of a table constraint up."""
    token = statement.token_of(body)
    if body["contype"] not in _CONSTRAINTS:
        raise token.error("this constraint is not supported; Spanner has UNIQUE as an index")
    if body["contype"] != "CONSTR_FOREIGN":
        return
    referencing = _columns(table, strings(body["fk_attrs"]), token)
    name, _ = _relation(body["pktable"], statement)
    other = table if name == table.name else table_named(database, name, token)
    referenced = _columns(other, strings(body["pk_attrs"]), token) if "pk_attrs" in body else other.primary_key
    if len(referencing) != len(referenced):
        raise token.error("a foreign key names as many columns on one side as on the other")


def type_of(body: Node, token: Token) -> str:
    """Spanner's text for a column's type: `VARCHAR(10)`, `BIGINT[]`."""
    path = list(strings(body["names"]))
    name = SPANNER_TYPES.get(path[-1]) if path[0] == "spanner" else TYPES.get(path[-1])
    if name is None or len(path) > 2 or (len(path) == 2 and path[0] not in {"spanner", "pg_catalog"}):
        raise token.error(f"unknown type `{'.'.join(path)}`")
    sizes = [str(one.get("A_Const", {}).get("ival", {}).get("ival", "?")) for one in body.get("typmods", ())]
    return name + (f"({','.join(sizes)})" if sizes else "") + "[]" * len(body.get("arrayBounds", ()))


def _relation(body: Node, statement: Statement) -> tuple[str, Token]:
    token = statement.token_of(body)
    if "catalogname" in body or body.get("relpersistence", "p") != "p":
        raise token.error("only `name` and `schema.name` are supported for tables")
    schema = body.get("schemaname", PUBLIC)
    name = check_name(body["relname"], token, "a table name")
    return (name if schema == PUBLIC else f"{check_name(schema, token, 'a schema name')}.{name}"), token


def _elements(nodes: Iterable[Node], token: Token) -> Iterable[str]:
    for node in nodes:
        element = node["IndexElem"]
        if "name" not in element:
            raise token.error("an index on an expression is not supported")
        yield element["name"]


def column_named(table: Table, name: str, token: Token) -> Column:
    column = table.column(name)
    if column is None or column.name != name:
        raise unknown("column", token, name, table.column_names)
    return column


def _columns(table: Table, names: Iterable[str], token: Token) -> tuple[str, ...]:
    found: list[str] = []
    for name in names:
        if column_named(table, name, token).name in found:
            raise token.error(f"column `{name}` appears twice")
        found.append(name)
    return tuple(found)


def known_fields(what: str, body: Node, fields: frozenset[str], token: Token) -> None:
    for name in body:
        if name not in fields:
            raise DdlError(f"`{name}` of {what} is not supported", token.line, token.column)
