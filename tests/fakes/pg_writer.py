"""Random statements of the PostgreSQL dialect, each written together with what it accesses.

The writer chooses a column first and then a way to spell it, so it knows what every name means without resolving any.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from spangate.model.access import Access, Operation, merged

TABLES = {"t": ("a", "b", "c", "d"), "u": ("a", "e", "f")}
Source = tuple[str, str] | None


@dataclass(frozen=True)
class Item:
    """Something in a FROM clause: its alias, the source of each column, and the tables that its whole row reads."""

    alias: str
    columns: dict[str, Source]
    tables: tuple[str, ...] = ()


@dataclass
class Writer:
    """Writes one statement; `draw` chooses. With `plain`, only what an old emulator knows."""

    draw: Any
    plain: bool = False
    found: list[Access] = field(default_factory=list)
    aliases: int = 0
    # Common table expressions in force, and their columns.
    ctes: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def query(self, depth: int, outer: tuple[Item, ...] = (), width: int | None = None) -> tuple[str, int]:
        """A query and how many columns it has; they are called c0, c1, ..."""
        ctes = self.ctes
        try:
            return self.any_query(depth, outer, width)
        finally:
            self.ctes = ctes

    def any_query(self, depth: int, outer: tuple[Item, ...], width: int | None) -> tuple[str, int]:
        kinds = (
            ["list", "list", "list", "group", "set", "with"]
            if self.plain
            else ["list", "list", "group", "set", "with", "values"]
        )
        kind = self.one(kinds if depth else ["list"])
        width = width or self.number(1, 3)
        if kind == "set":
            left, _ = self.query(depth - 1, outer, width)
            right, _ = self.query(depth - 1, outer, width)
            order = self.one(["", " ORDER BY c0", " LIMIT 2"])
            return f"({left}) {self.one(['UNION ALL', 'UNION', 'EXCEPT', 'INTERSECT'])} ({right}){order}", width
        if kind == "values":
            row = ", ".join(str(self.number(0, 9)) for _ in range(width))
            alias = self.alias()
            names = ", ".join(f"c{n}" for n in range(width))
            return f"SELECT {names} FROM (VALUES ({row})) AS {alias}({names})", width
        prefix = ""
        if kind == "with":
            inner, inner_width = self.query(depth - 1)
            # It may well hide a table.
            name = self.one(["t", "u", self.alias()])
            prefix = f"WITH {name} AS ({inner}) "
            self.ctes = {**self.ctes, name: tuple(f"c{n}" for n in range(inner_width))}
        clause, items = self.source(depth, outer)
        scope = (items, outer)
        text = f"{prefix}SELECT "
        if kind == "group":
            keys = [self.column(items) for _ in range(self.number(0, 2))]
            columns = [self.one([*keys, ""]) or self.aggregate(items) for _ in range(width)]
            text += self.named(columns) + f" FROM {clause}" + self.where(scope, depth)
            if keys:
                text += f" GROUP BY {', '.join(keys)}"
                text += f" HAVING {self.aggregate(items)} > 0" if self.one([True, False]) else ""
            return text, width
        columns = [self.expression(scope, depth) for _ in range(width)]
        if not self.plain and self.one([True, False, False]):
            columns[0] += f" + SUM({self.column(items)}) OVER (PARTITION BY {self.column(items)})"
        text += self.one(["", "", "DISTINCT "]) + self.named(columns) + f" FROM {clause}" + self.where(scope, depth)
        if "DISTINCT" not in text[: len(prefix) + 20] and self.one([True, False]):
            text += f" ORDER BY {self.one(['c0', '1', 'c0 DESC', '']) or self.column(items)}"
        return text + self.one(["", "", " LIMIT 3", " LIMIT 3 OFFSET 1"]), width

    def change(self) -> str:
        """INSERT, UPDATE or DELETE of `t`."""
        alias = self.one(["t", "x0"])
        item = Item(alias, {name: ("t", name) for name in TABLES["t"]}, ("t",))
        called = "t" if alias == "t" else "t AS x0"
        match self.one(["insert", "update", "delete"]):
            case "insert":
                columns = self.one([["a"], ["a", "b"], ["a", "d", "b"]])
                self.found.append(Access(Operation.INSERT, "t", tuple(columns)))
                source = self.one(["values", "query"])
                if source == "values":
                    text = f"VALUES ({', '.join(str(self.number(0, 9)) for _ in columns)})"
                else:
                    text = self.query(1, (), len(columns))[0]
                text = f"INSERT INTO {called} ({', '.join(columns)}) {text}"
                return text + self.conflict(item) + self.returning((item,))
            case "update":
                clause, items = self.others(" FROM ")
                targets = self.one([["b"], ["b", "d"], ["d", "c", "b"]])
                self.found.append(Access(Operation.UPDATE, "t", tuple(targets)))
                scope = ((item, *items), ())
                values = ", ".join(f"{target} = {self.expression(scope, 1)}" for target in targets)
                text = f"UPDATE {called} SET {values}{clause} WHERE {self.predicate(scope, 1)}"
                return text + self.returning((item, *items))
            case _:
                clause, items = ("", ()) if self.plain else self.others(" USING ")
                self.found.append(Access(Operation.DELETE, "t"))
                text = f"DELETE FROM {called}{clause} WHERE {self.predicate(((item, *items), ()), 1)}"
                return text + self.returning((item, *items))

    def conflict(self, item: Item) -> str:
        kind = self.one(["", "", "nothing", "update"])
        if not kind:
            return ""
        self.found.append(Access(Operation.READ, "t", ("a",)))
        if kind == "nothing":
            return " ON CONFLICT (a) DO NOTHING"
        self.found.append(Access(Operation.UPDATE, "t", ("b",)))
        value = "excluded.b"
        if not self.plain and self.one([True, False]):
            value = f"excluded.c + {self.qualified(item)}"
        return f" ON CONFLICT (a) DO UPDATE SET b = {value}"

    def others(self, word: str) -> tuple[str, tuple[Item, ...]]:
        if self.plain or self.one([True, False]):
            return "", ()
        clause, items = self.source(1, ())
        return word + clause, items

    def returning(self, items: tuple[Item, ...]) -> str:
        match self.one(["", "", "column", "star"]):
            case "column":
                return f" RETURNING {self.qualified(items[0])}"
            case "star" if len(items) == 1:
                self.whole(items[0])
                return " RETURNING *"
        return ""

    def source(self, depth: int, outer: tuple[Item, ...]) -> tuple[str, tuple[Item, ...]]:
        """A FROM clause and what it brings."""
        kinds = ["table", "table", "query", "star", "join", "using", "comma"]
        kind = self.one(kinds if self.plain else [*kinds, "natural", "lateral", "renamed"]) if depth else "table"
        match kind:
            case "join" | "comma":
                left, left_items = self.source(depth - 1, outer)
                right, right_items = self.source(0, outer)
                items = (*left_items, *right_items)
                if kind == "comma":
                    return f"{left}, {right}", items
                join = self.one(["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN", "CROSS JOIN"])
                if join == "CROSS JOIN":
                    return f"{left} {join} {right}", items
                # The last item: a comma binds less than a join.
                on = f"{self.qualified(left_items[-1])} = {self.qualified(right_items[0])}"
                return f"{left} {join} {right} ON {on}", items
            case "using" | "natural":
                x, y = self.table("t"), self.table("u")
                for table in TABLES:
                    self.found.append(Access(Operation.READ, table, ("a",), every=kind == "natural"))
                join = f"{self.spelled('t')} AS {x.alias} JOIN {self.spelled('u')} AS {y.alias} USING (a)"
                if kind == "natural":
                    join = f"{self.spelled('t')} AS {x.alias} NATURAL JOIN {self.spelled('u')} AS {y.alias}"
                return join, (x, y)
            case "lateral":
                left, left_items = self.source(0, outer)
                alias = self.alias()
                inner = f"SELECT {self.qualified(left_items[0])} AS c0"
                return f"{left}, LATERAL ({inner}) AS {alias}", (*left_items, Item(alias, {"c0": None}))
            case "query":
                alias = self.alias()
                inner, width = self.query(depth - 1, outer)
                return f"({inner}) AS {alias}", (Item(alias, {f"c{n}": None for n in range(width)}),)
            case "star":
                table = self.one([*TABLES, "sales.x"])
                item = self.table(table)
                alias = self.alias()
                self.whole(item)
                star = self.one(["*", f"{item.alias}.*"])
                return f"(SELECT {star} FROM {self.spelled(table)} AS {item.alias}) AS {alias}", (
                    Item(alias, dict.fromkeys(item.columns)),
                )
            case "renamed":
                item = self.table("u")
                self.found.append(Access(Operation.READ, "u", every=True))
                columns = dict(zip(("p", "q", "f"), item.columns.values(), strict=True))
                return f"{self.spelled('u')} AS {item.alias}(p, q)", (Item(item.alias, columns, ("u",)),)
        name = self.one([*TABLES, *self.ctes])
        if name in self.ctes and self.one([True, True, False] if name in TABLES else [True]):
            alias = self.alias()
            return f"{name} AS {alias}", (Item(alias, dict.fromkeys(self.ctes[name])),)
        item = self.table(name)
        return f"{self.spelled(name)} AS {item.alias}", (item,)

    def spelled(self, table: str) -> str:
        """A table's name; with its schema where WITH hides it."""
        if "." in table or not (table in self.ctes or self.one([True, False])):
            return table
        return f"public.{table}"

    def table(self, name: str) -> Item:
        self.found.append(Access(Operation.READ, name))
        return Item(self.alias(), {column: (name, column) for column in TABLES.get(name, ("k",))}, (name,))

    def whole(self, item: Item) -> None:
        for table in item.tables:
            self.found.append(Access(Operation.READ, table, TABLES.get(table, ("k",)), every=True))

    def where(self, scope: tuple[tuple[Item, ...], tuple[Item, ...]], depth: int) -> str:
        return f" WHERE {self.predicate(scope, depth)}" if self.one([True, False]) else ""

    def expression(self, scope: tuple[tuple[Item, ...], tuple[Item, ...]], depth: int) -> str:
        items, outer = scope
        kinds = ["column", "column", "outer", "number", "sum", "case", "function"]
        match self.one([*kinds, "scalar", "count"] if depth > 0 else kinds):
            case "column":
                return self.column(items)
            case "outer" if outer:
                return self.qualified(self.one(outer))
            case "sum":
                return f"({self.column(items)} + {self.expression(scope, depth - 1)})"
            case "case":
                return f"CASE WHEN {self.predicate(scope, 0)} THEN {self.column(items)} ELSE 0 END"
            case "function":
                return f"COALESCE(abs({self.column(items)}), CAST({self.column(items)} AS bigint), 1)"
            case "scalar":
                return f"(SELECT MAX(q.c0) FROM ({self.query(depth - 1, (*items, *outer), 1)[0]}) AS q)"
            case "count":
                return f"(SELECT COUNT(*) FROM ({self.query(depth - 1, (*items, *outer))[0]}) AS q)"
        return str(self.number(0, 3))

    def predicate(self, scope: tuple[tuple[Item, ...], tuple[Item, ...]], depth: int) -> str:
        items, outer = scope
        kinds = ["compare", "compare", "null"]
        match self.one([*kinds, "in", "exists", "not", "or"] if depth > 0 else kinds):
            case "compare":
                return f"{self.column(items)} {self.one(['=', '<', '<>'])} {self.expression(scope, 0)}"
            case "null":
                return f"{self.column(items)} IS NULL"
            case "in":
                return f"{self.column(items)} IN ({self.query(depth - 1, (*items, *outer), 1)[0]})"
            case "exists":
                return f"EXISTS ({self.query(depth - 1, (*items, *outer))[0]})"
            case "not":
                return f"NOT ({self.predicate(scope, depth - 1)})"
        return f"({self.predicate(scope, depth - 1)} OR {self.predicate(scope, depth - 1)})"

    def aggregate(self, items: tuple[Item, ...]) -> str:
        if self.one([True, False, False]):
            return "COUNT(*)"
        return f"{self.one(['MAX', 'MIN', 'SUM', 'COUNT'])}({self.column(items)})"

    def column(self, items: tuple[Item, ...]) -> str:
        """A column of one of these, alone where that means it and no other."""
        item = self.one(items)
        name = self.one(sorted(item.columns))
        is_only = sum(name in one.columns for one in items) == 1
        return self.named_column(item, name, alone=is_only and self.one([True, False]))

    def qualified(self, item: Item) -> str:
        return self.named_column(item, self.one(sorted(item.columns)), alone=False)

    def named_column(self, item: Item, name: str, *, alone: bool) -> str:
        source = item.columns[name]
        if source is not None:
            self.found.append(Access(Operation.READ, source[0], (source[1],)))
        return self.one([name, f'"{name}"', name.upper()]) if alone else f"{item.alias}.{name}"

    def named(self, columns: list[str]) -> str:
        return ", ".join(f"{column} AS c{n}" for n, column in enumerate(columns))

    def alias(self) -> str:
        self.aliases += 1
        return f"x{self.aliases}"

    def one(self, choices: Any) -> Any:
        return self.draw(st.sampled_from(choices))

    def number(self, least: int, most: int) -> int:
        return int(self.draw(st.integers(least, most)))


@st.composite
def statements(draw: Any, *, plain: bool = False) -> tuple[str, tuple[Access, ...]]:
    """A statement and its accesses."""
    writer = Writer(draw, plain)
    sql = writer.change() if writer.one([True, False, False]) else writer.query(2)[0]
    return sql, merged(writer.found)
