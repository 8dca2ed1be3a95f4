"""Intent files: any text is answered, how a thing is written never matters, what it says always does."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone

from hypothesis import example, given, settings
from hypothesis import strategies as st

from fakes import shop
from spangate.intent import Intent, IntentErrors, parse_intent
from spangate.intent.check import check_intent
from spangate.intent.errors import PROBLEMS_MAX
from spangate.intent.words import SWITCH_KEYS
from spangate.model.policy import Policy
from spangate.model.schema import Schema

# Pieces that mean something to YAML or to us: random text alone hardly ever gets past the first line.
SIGNS = list("[](){},:-?!&*|>'\"%@`#~\n\t\r\\\ufeff")
WORDS = ["<<", "---", "...", "null", "no", "12", "Orders", "Customers", "read", "traffic", "(CustomerId, Name)"]
WORDS += ["deny", "write", "roles", "ddl", "until", "{on: Orders, until: 2030-01-01T00:00Z}", "(* except Name)", "Ord*"]
JOINTS = ["  ", ": ", "- ", "\n  ", "? ", "!!str ", "&a ", "*a", "'\n", "\\x41"]
SNIPPETS = st.one_of(st.sampled_from(SIGNS), st.sampled_from(WORDS), st.sampled_from(JOINTS), st.text(max_size=4))


def answer(text: str) -> Intent | IntentErrors:
    try:
        return parse_intent(text, "f")
    except IntentErrors as error:
        return error


def assert_answered(text: str) -> None:
    found = answer(text)
    if isinstance(found, IntentErrors):
        assert 1 <= len(found.problems) <= PROBLEMS_MAX
        for problem in found.problems:
            assert problem.position.file == "f"
            assert 1 <= problem.position.line <= text.count("\n") + text.count("\r") + 2
            assert problem.position.column >= 1
            assert str(problem).replace("\n  help: ", "").isprintable()
    else:
        with contextlib.suppress(IntentErrors):
            check_intent(found, {entry.alias.text: shop.SCHEMA for entry in found.databases})


@given(st.text(max_size=60))
@example("")
@example("\ud800")
@example('"\\UFFFFFFFF"')
@settings(max_examples=150, deadline=None)
def test_any_text_gives_a_tree_or_problems_with_places(text: str) -> None:
    assert_answered(text)


@given(st.lists(SNIPPETS, max_size=12).map("".join))
@settings(max_examples=150, deadline=None)
def test_any_heap_of_yaml_gives_a_tree_or_problems_with_places(text: str) -> None:
    assert_answered(text)


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_a_good_file_with_anything_cut_out_or_put_in_gives_a_tree_or_problems_with_places(data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(shop.INTENT)))
    end = data.draw(st.integers(start, min(len(shop.INTENT), start + 12)))
    assert_answered(shop.INTENT[:start] + data.draw(SNIPPETS) + shop.INTENT[end:])


# What a file says, apart from how: (identity, alias, operation, table, exception?) -> what of it, and until when.
TABLES = {table.name: table.column_names for table in shop.SCHEMA.tables}
IDENTITIES = {"checkout": "shop/checkout", "reports": "analytics/reports", "a-1": "tools/copilot"}
ALIASES = ("shop", "logs")
Key = tuple[str, str, str, str, bool]
END = datetime(2030, 1, 2, 12, tzinfo=UTC)


@dataclass(frozen=True)
class Part:
    """`every`: all columns but those that are not in `columns`. Of a table without columns, all of it."""

    columns: frozenset[str]
    every: bool
    until: datetime | None


Meaning = dict[Key, Part]


@st.composite
def meanings(draw: st.DrawFn, exceptions: bool = True) -> Meaning:
    keys = st.tuples(
        st.sampled_from(sorted(IDENTITIES)),
        st.sampled_from(ALIASES),
        st.sampled_from(["read", "insert", "update", "delete", "partitioned_dml", "schema", "ddl"]),
        st.sampled_from(sorted(TABLES)),
        st.booleans() if exceptions else st.just(False),
    ).map(lambda key: (*key[:3], "" if key[2] in SWITCH_KEYS else key[3], key[4]))
    return {key: draw(parts(key)) for key in draw(st.lists(keys, min_size=1, max_size=6, unique=True))}


@st.composite
def parts(draw: st.DrawFn, key: Key) -> Part:
    until = draw(st.sampled_from([None, END, END + timedelta(minutes=1)]))
    if key[2] not in ("read", "insert", "update"):
        return Part(frozenset(), True, until)
    columns = draw(st.frozensets(st.sampled_from(TABLES[key[3]]), min_size=1))
    every = draw(st.booleans())
    if every and key[4]:
        columns = frozenset(TABLES[key[3]])  # an exception has no exceptions
    return Part(columns, every, until)


@dataclass
class Author:
    """Writes one meaning down in one of many ways."""

    draw: st.DrawFn

    def shuffled(self, items: list[str]) -> list[str]:
        return self.draw(st.permutations(items))

    def cased(self, word: str) -> str:
        return self.draw(st.sampled_from([word, word.lower(), word.upper()]))

    def entries(self, table: str, part: Part) -> list[str]:
        everything = frozenset(TABLES[table])
        comma = self.draw(st.sampled_from([", ", ",", " , "]))
        if part.every:
            excepted = self.shuffled(sorted(everything - part.columns)) if part.columns else []
            words = comma.join(self.cased(name) for name in excepted)
            found = [f"{self.cased(table)}(* except {words})" if words else self.whole(table)]
        else:
            names = self.shuffled(sorted(part.columns))
            cut = self.draw(st.integers(1, len(names)))
            found = [
                f"{self.cased(table)}({comma.join(self.cased(name) for name in piece)})"
                for piece in (names[:cut], names[cut:])
                if piece
            ]
        return [self.ending(entry, part.until) for entry in found]

    def whole(self, table: str) -> str:
        # Patterns that match this table and no other of the shop's.
        return self.cased(
            self.draw(st.sampled_from([table, {"Customers": "C*s", "Orders": "*ders"}.get(table, table)]))
        )

    def moment(self, until: datetime) -> str:
        minutes = self.draw(st.sampled_from([0, 60, -330]))
        local = until.astimezone(timezone(timedelta(minutes=minutes)))
        precision = self.draw(st.sampled_from(["minutes", "seconds"]))
        return local.isoformat(timespec=precision)

    def ending(self, entry: str, until: datetime | None) -> str:
        return f'{{on: "{entry}", until: {self.moment(until)}}}' if until is not None else entry

    def listing(self, entries: list[str], indent: str) -> str:
        quoted = [entry if entry[0] == "{" else self.quoted(entry) for entry in self.shuffled(entries)]
        if self.draw(st.booleans()):
            return f" [{', '.join(quoted)}]{self.comment()}\n"
        return self.comment() + "\n" + "".join(f"{indent}- {entry}{self.comment()}\n" for entry in quoted)

    def quoted(self, entry: str) -> str:
        forms = [f'"{entry}"', f"'{entry}'"] + [entry] * (entry[0] != "*")
        return self.draw(st.sampled_from(forms))

    def comment(self) -> str:
        return self.draw(st.sampled_from(["", "  # why not"]))

    def file(self, meaning: Meaning) -> str:
        databases = [f"  {alias}: {{instance: main, database: {alias}, schema: s.sql}}\n" for alias in ALIASES]
        identities = [f"  {name}:\n    workload: {account}\n" for name, account in IDENTITIES.items()]
        # What goes through a role of its holder, and what stands under the holder.
        roles = {key: part for key, part in meaning.items() if self.draw(st.booleans())}
        direct = {key: part for key, part in meaning.items() if key not in roles}
        text = [
            "spangate: v1\n",
            f"trust_domain: shop.example{self.comment()}\n",
            "databases:\n" + "".join(self.shuffled(databases)),
            "identities:\n" + "".join(self.shuffled(identities)),
            "access:\n" + "".join(self.shuffled(self.access(direct, {key[0] for key in roles}))),
        ]
        if roles:
            text.append("roles:\n" + "".join(self.shuffled(self.access(roles, set(), "r-"))))
        return "".join(self.shuffled(text))

    def access(self, meaning: Meaning, with_role: set[str], prefix: str = "") -> list[str]:
        found = []
        for name in {key[0] for key in meaning} | with_role:
            databases = [f"    roles: [r-{name}]\n"] if name in with_role else []
            for alias in {key[1] for key in meaning if key[0] == name}:
                own = {key: part for key, part in meaning.items() if key[:2] == (name, alias)}
                grants = self.operations({key: part for key, part in own.items() if not key[4]}, 6)
                exceptions = self.operations({key: part for key, part in own.items() if key[4]}, 8)
                if exceptions:
                    grants.append("      deny:\n" + "".join(self.shuffled(exceptions)))
                databases.append(f"    {alias}:\n" + "".join(self.shuffled(sorted(grants))))
            found.append(f"  {prefix}{name}:\n" + "".join(self.shuffled(sorted(databases))))
        return sorted(found)

    def operations(self, meaning: Meaning, indent: int) -> list[str]:
        found = []
        for operation in {key[2] for key in meaning}:
            mine = {key: part for key, part in meaning.items() if key[2] == operation}
            if operation in SWITCH_KEYS:
                (part,) = mine.values()
                value = " true\n" if part.until is None else f" {{until: {self.moment(part.until)}}}\n"
            else:
                entries = [entry for key, part in mine.items() for entry in self.entries(key[3], part)]
                value = self.listing(entries, " " * (indent + 2))
            found.append(f"{' ' * indent}{operation}:{value}")
        return sorted(found)


def policy(text: str, schema: Schema = shop.SCHEMA) -> Policy:
    return shop.policy(text, schema)


@st.composite
def written_twice(draw: st.DrawFn) -> tuple[Meaning, str, str]:
    meaning = draw(meanings())
    return meaning, Author(draw).file(meaning), Author(draw).file(meaning)


@given(written_twice())
@settings(max_examples=60, deadline=None)
def test_order_style_case_comments_and_splitting_never_change_the_version(case: tuple[Meaning, str, str]) -> None:
    _, one, other = case
    assert policy(one).canonical == policy(other).canonical
    assert policy(one).version == policy(other).version


@given(written_twice())
@settings(max_examples=40, deadline=None)
def test_a_policy_grants_exactly_what_the_file_says(case: tuple[Meaning, str, str]) -> None:
    meaning, text, _ = case
    found: Meaning = {}
    for grant in policy(text).grants:
        key = (grant.identity, grant.database, grant.operation.value, grant.table, grant.deny)
        before = found.get(key, Part(frozenset(), False, grant.until))
        assert before.until == grant.until
        found[key] = Part(before.columns | grant.columns, before.every or grant.every, grant.until)
    # Columns are written out only where an operation is on columns.
    assert found == meaning


@given(written_twice())
@settings(max_examples=40, deadline=None)
def test_every_grant_stands_where_it_says(case: tuple[Meaning, str, str]) -> None:
    _, text, _ = case
    lines = text.split("\n")
    for grant in policy(text).grants:
        rest = lines[grant.position.line - 1][grant.position.column - 1 :]
        if grant.operation.value in SWITCH_KEYS:
            assert rest.startswith(("true", "{until"))
        else:
            assert rest.startswith(grant.text.partition("(")[0])


@given(meanings(exceptions=False), meanings(exceptions=False), st.data())
@settings(max_examples=30, deadline=None)
def test_two_files_share_a_version_exactly_if_they_say_the_same(a: Meaning, b: Meaning, data: st.DataObject) -> None:
    author = Author(data.draw)
    assert (policy(author.file(a)).version == policy(author.file(b)).version) == (a == b)


@given(meanings(exceptions=False), st.data())
@settings(max_examples=60, deadline=None)
def test_a_change_of_any_grant_changes_the_version(a: Meaning, data: st.DataObject) -> None:
    author = Author(data.draw)
    key = data.draw(st.sampled_from(sorted(a)))
    b = {**a, key: data.draw(parts(key))}
    assert (policy(author.file(a)).version == policy(author.file(b)).version) == (a == b)
