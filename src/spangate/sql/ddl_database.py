"""The database as far as the statements of a schema have made it.

Rules: names compare case-insensitively; tables, indexes, views and other named things share one name space in each
named schema; what is looked up and does not exist raises at its place, with the nearest name that does.
Not here: what statements look like (ddl.py, ddl_table.py, ddl_alter.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from spangate.model.nearest import nearest
from spangate.model.schema import Column, Index, SchemaObject, Table
from spangate.sql.ddl_tokens import DdlError, Token

# "Columns per table: 1,024" (https://cloud.google.com/spanner/quotas#tables). Names are looked for one by one.
COLUMNS_MAX = 1_024


def check_room(count: int, token: Token) -> None:
    """Raises at the column `token` if its table has `count` columns before it and can have no more."""
    if count >= COLUMNS_MAX:
        raise token.error(f"a table has at most {COLUMNS_MAX} columns")


def unknown(what: str, token: Token, name: str, existing: Iterable[str]) -> DdlError:
    """The error for a name that does not exist, with the nearest one that does."""
    near = nearest(name, existing)
    return token.error(f"{what} `{name}` does not exist" + (f"; did you mean `{near}`?" if near else ""))


def column_named(table: Table, token: Token) -> Column:
    """The column of `table` that `token` names."""
    column = table.column(token.text)
    if column is None:
        raise unknown("column", token, token.text, table.column_names)
    return column


def columns_named(table: Table, tokens: Iterable[Token]) -> tuple[str, ...]:
    """Their names as the table spells them; each at most once."""
    found: list[str] = []
    for token in tokens:
        name = column_named(table, token).name
        if name in found:
            raise token.error(f"column `{name}` appears twice")
        found.append(name)
    return tuple(found)


class Database:
    """Tables, indexes and other objects by lower-case name, in the order they were made; names of functions."""

    def __init__(self) -> None:
        self.tables: dict[str, Table] = {}
        self.indexes: dict[str, Index] = {}
        self.objects: dict[str, SchemaObject] = {}
        # In lower case. A function that is dropped again stays: it is refused once too often rather than allowed.
        self.functions: set[str] = set()
        self._named_schemas: dict[str, str] = {}
        # Views and the like: what they are, by lower-case name.
        self._others: dict[str, str] = {}

    def table(self, name: str, token: Token) -> Table:
        """The table of that name."""
        table = self.tables.get(name.lower())
        if table is None:
            if what := self._others.get(name.lower()):
                raise token.error(f"`{name}` is a {what}, not a table")
            raise unknown("table", token, name, (one.name for one in self.tables.values()))
        return table

    def index(self, name: str, token: Token) -> Index:
        """The index of that name."""
        index = self.indexes.get(name.lower())
        if index is None:
            raise unknown("index", token, name, (one.name for one in self.indexes.values()))
        return index

    def add_schema(self, name: str) -> None:
        """Makes a named schema, in which tables can have their names."""
        self._named_schemas[name.lower()] = name

    def is_free(self, name: str, token: Token, *, may_exist: bool = False) -> bool:
        """Whether `name` can be given to something new. Raises if it is taken, unless it `may_exist`."""
        schema_name, dot, _ = name.rpartition(".")
        if dot and schema_name.lower() not in self._named_schemas:
            raise unknown("schema", token, schema_name, self._named_schemas.values())
        taken = any(name.lower() in names for names in (self.tables, self.indexes, self._others))
        if taken and not may_exist:
            raise token.error(f"`{name}` exists already")
        return not taken

    def add_other(self, what: str, name: str, token: Token, *, may_exist: bool, may_replace: bool) -> bool:
        """Takes the name for something that is neither a table nor an index; only its own kind can be replaced.

        Whether it is made now, and not kept as it was.
        """
        replaces = may_replace and self._others.get(name.lower()) == what
        made = self.is_free(name, token, may_exist=may_exist or replaces) or replaces
        if made:
            self._others[name.lower()] = what
        return made

    def put_object(self, one: SchemaObject) -> None:
        """Adds an object whose name `add_other` took, or puts it in the place of its former self."""
        self.objects[one.name.lower()] = one

    def drop_other(self, what: str, name: str, token: Token) -> None:
        """Frees a name that `add_other` took, if it did; raises if something else has it."""
        existing = self._others.get(name.lower(), what)
        if existing != what:
            raise token.error(f"`{name}` is a {existing}, not a {what}")
        if name.lower() in self.tables:
            raise token.error(f"`{name}` is a table, not a {what}")
        self._others.pop(name.lower(), None)
        self.objects.pop(name.lower(), None)

    def drop_schema(self, name: str) -> None:
        """Takes a named schema away, if there is one."""
        self._named_schemas.pop(name.lower(), None)

    def put(self, thing: Table | Index) -> None:
        """Adds a table or an index, or puts it in the place of its former self."""
        if isinstance(thing, Table):
            self.tables[thing.name.lower()] = thing
        else:
            self.indexes[thing.name.lower()] = thing

    def put_column(self, table: Table, column: Column) -> None:
        """Puts `column` in the place of its former self."""
        columns = tuple(column if one.name == column.name else one for one in table.columns)
        self.put(replace(table, columns=columns))

    def drop_table(self, table: Table, token: Token) -> None:
        """Takes a table away; raises if an index or a child table still needs it."""
        for index in self.indexes.values():
            if index.table == table.name:
                raise token.error(f"table `{table.name}` still has the index `{index.name}`")
        for child in self.tables.values():
            if child.parent == table.name:
                raise token.error(f"table `{table.name}` still has the child table `{child.name}`")
        del self.tables[table.name.lower()]

    def drop_column(self, table: Table, column: Column, token: Token) -> None:
        """Takes a column away; raises if a key still needs it."""
        if column.name in table.primary_key:
            raise token.error(f"column `{column.name}` is part of the primary key")
        for index in self.indexes.values():
            if index.table == table.name and column.name in (*index.key, *index.storing):
                raise token.error(f"column `{column.name}` is used by the index `{index.name}`")
        self.put(replace(table, columns=tuple(one for one in table.columns if one.name != column.name)))
