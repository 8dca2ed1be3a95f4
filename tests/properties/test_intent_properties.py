"""Intent files: any text is answered, how a thing is written never matters, what it says always does."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from fakes import shop
from spangate.intent import Intent, IntentErrors, parse_intent
from spangate.intent.check import check_intent
from spangate.intent.errors import PROBLEMS_MAX
from spangate.model.policy import Policy
from spangate.model.schema import Schema

# Pieces that mean something to YAML or to us: random text alone hardly ever gets past the first line.
SIGNS = list("[](){},:-?!&*|>'\"%@`#~\n\t\r\\\ufeff")
WORDS = ["<<", "---", "...", "null", "no", "12", "Orders", "Customers", "read", "traffic", "(CustomerId, Name)"]
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


# What a file says, apart from how: (identity, alias, operation, table) -> columns, empty for delete.
TABLES = {table.name: table.column_names for table in shop.SCHEMA.tables}
IDENTITIES = {"checkout": "shop/checkout", "reports": "analytics/reports", "a-1": "tools/copilot"}
ALIASES = ("shop", "logs")
Key = tuple[str, str, str, str]
Meaning = dict[Key, frozenset[str]]


@st.composite
def meanings(draw: st.DrawFn) -> Meaning:
    keys = st.tuples(
        st.sampled_from(sorted(IDENTITIES)),
        st.sampled_from(ALIASES),
        st.sampled_from(["read", "insert", "update", "delete"]),
        st.sampled_from(sorted(TABLES)),
    )
    found: Meaning = {}
    for key in draw(st.lists(keys, min_size=1, max_size=6, unique=True)):
        columns = st.frozensets(st.sampled_from(TABLES[key[3]]), min_size=1)
        found[key] = frozenset() if key[2] == "delete" else draw(columns)
    return found


@dataclass
class Author:
    """Writes one meaning down in one of many ways."""

    draw: st.DrawFn

    def shuffled(self, items: list[str]) -> list[str]:
        return self.draw(st.permutations(items))

    def cased(self, word: str) -> str:
        return self.draw(st.sampled_from([word, word.lower(), word.upper()]))

    def entries(self, table: str, columns: frozenset[str]) -> list[str]:
        if not columns or (columns == frozenset(TABLES[table]) and self.draw(st.booleans())):
            return [self.cased(table)]
        names = self.shuffled(sorted(columns))
        cut = self.draw(st.integers(1, len(names)))
        comma = self.draw(st.sampled_from([", ", ",", " , "]))
        return [
            f"{self.cased(table)}({comma.join(self.cased(name) for name in part)})"
            for part in (names[:cut], names[cut:])
            if part
        ]

    def listing(self, entries: list[str], indent: str) -> str:
        quoted = [self.draw(st.sampled_from([entry, f'"{entry}"', f"'{entry}'"])) for entry in self.shuffled(entries)]
        if self.draw(st.booleans()):
            return f" [{', '.join(quoted)}]{self.comment()}\n"
        return self.comment() + "\n" + "".join(f"{indent}- {entry}{self.comment()}\n" for entry in quoted)

    def comment(self) -> str:
        return self.draw(st.sampled_from(["", "  # why not"]))

    def file(self, meaning: Meaning) -> str:
        databases = [f"  {alias}: {{instance: main, database: {alias}, schema: s.sql}}\n" for alias in ALIASES]
        identities = [f"  {name}:\n    workload: {account}\n" for name, account in IDENTITIES.items()]
        parts = [
            "spangate: v1\n",
            f"trust_domain: shop.example{self.comment()}\n",
            "databases:\n" + "".join(self.shuffled(databases)),
            "identities:\n" + "".join(self.shuffled(identities)),
            "access:\n" + "".join(self.shuffled(self.access(meaning))),
        ]
        return "".join(self.shuffled(parts))

    def access(self, meaning: Meaning) -> list[str]:
        found = []
        for name in {key[0] for key in meaning}:
            databases = []
            for alias in {key[1] for key in meaning if key[0] == name}:
                operations = []
                for operation in {key[2] for key in meaning if key[:2] == (name, alias)}:
                    entries = [
                        entry
                        for key, columns in meaning.items()
                        if key[:3] == (name, alias, operation)
                        for entry in self.entries(key[3], columns)
                    ]
                    operations.append(f"      {operation}:{self.listing(entries, ' ' * 8)}")
                databases.append(f"    {alias}:\n" + "".join(self.shuffled(sorted(operations))))
            found.append(f"  {name}:\n" + "".join(self.shuffled(sorted(databases))))
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
    found: dict[Key, frozenset[str]] = {}
    for grant in policy(text).grants:
        key = (grant.identity, grant.database, grant.operation.value, grant.table)
        found[key] = found.get(key, frozenset()) | grant.columns
    assert found == meaning


@given(written_twice())
@settings(max_examples=40, deadline=None)
def test_every_grant_stands_where_it_says(case: tuple[Meaning, str, str]) -> None:
    _, text, _ = case
    lines = text.split("\n")
    for grant in policy(text).grants:
        rest = lines[grant.position.line - 1][grant.position.column - 1 :]
        assert rest.lower().startswith(grant.table.lower())


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_a_change_of_any_grant_changes_the_version(data: st.DataObject) -> None:
    author = Author(data.draw)
    meaning = data.draw(meanings())
    changed = dict(meaning)
    key = data.draw(st.sampled_from(sorted(meaning)))
    if meaning[key] and data.draw(st.booleans()):
        column = data.draw(st.sampled_from(TABLES[key[3]]))
        changed[key] = meaning[key] ^ {column}
        assume(changed[key])
    else:
        del changed[key]
        other = (*key[:2], "delete" if key[2] != "delete" else "read", key[3])
        assume(other not in meaning)
        changed[other] = frozenset() if other[2] == "delete" else frozenset(TABLES[key[3]])
    assert policy(author.file(meaning)).version != policy(author.file(changed)).version


@given(meanings(), meanings(), st.data())
@settings(max_examples=30, deadline=None)
def test_two_files_share_a_version_exactly_if_they_say_the_same(a: Meaning, b: Meaning, data: st.DataObject) -> None:
    author = Author(data.draw)
    assert (policy(author.file(a)).version == policy(author.file(b)).version) == (a == b)
