"""A DDL statement that could manage roles counts as one that does."""

from __future__ import annotations

import pytest

from spangate.model.schema import Dialect
from spangate.sql.ddl_roles import manages_roles

BOTH = list(Dialect)
MANAGES = [
    "CREATE ROLE a",
    "create role a",
    "DROP ROLE a",
    "DROP ROLE IF EXISTS a",
    "ALTER ROLE a RENAME TO b",
    "GRANT SELECT ON TABLE T TO ROLE a",
    "GRANT ROLE a TO ROLE b",
    "REVOKE SELECT ON TABLE T FROM ROLE a",
    "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO a",
    "  /* a */ GRANT SELECT ON TABLE T TO ROLE a",
    "-- a\nGRANT SELECT ON TABLE T TO ROLE a;",
    "# a\nCREATE/**/ROLE a",
    "DROP TABLE T; GRANT ROLE a TO ROLE b",
    "CREATE OR REPLACE ROLE a",
    "GRANT",
    "ROLE",
    # A text that cannot be read with certainty.
    "@{a=1} GRANT SELECT ON TABLE T TO ROLE a",
    "(GRANT SELECT ON TABLE T TO ROLE a)",
    "EXPLAIN GRANT SELECT ON TABLE T TO ROLE a",
    "\ufeffGRANT SELECT ON TABLE T TO ROLE a",
    "GRANT '",
    "CREATE!TABLE Role (a INT64) PRIMARY KEY (a)",
    "CREATE 'a' ROLE b",
    "CREATE OR (ROLE) a",
    "CREATE TABLE T (Role STRING(MAX) DEFAULT ('a)",
]
OTHERS = [
    "DROP TABLE T",
    "CREATE TABLE Users (Role STRING(MAX)) PRIMARY KEY (Role)",
    "ALTER TABLE Users ADD COLUMN Role STRING(MAX);",
    "CREATE INDEX ByRole ON Users (Role)",
    "CREATE OR REPLACE VIEW V SQL SECURITY INVOKER AS SELECT u.Role FROM Users AS u",
    "CREATE TABLE Grants (Id INT64) PRIMARY KEY (Id)",
    "",
]


@pytest.mark.parametrize("dialect", BOTH)
@pytest.mark.parametrize("statement", MANAGES)
def test_what_manages_roles_or_could_is_seen(statement, dialect):
    assert manages_roles(statement, dialect)


@pytest.mark.parametrize("dialect", BOTH)
@pytest.mark.parametrize("statement", OTHERS)
def test_what_only_has_a_word_of_it_is_not(statement, dialect):
    assert not manages_roles(statement, dialect)


def test_comments_and_strings_are_read_as_in_their_dialect():
    hidden = "/* /* */ CREATE TABLE */ GRANT a TO b"
    assert manages_roles(hidden, Dialect.POSTGRESQL)
    assert not manages_roles("CREATE TABLE T (A STRING(9) DEFAULT ('GRANT'))", Dialect.GOOGLESQL)
    assert manages_roles("CREATE SCHEMA s GRANT SELECT ON t TO b", Dialect.POSTGRESQL)
    assert not manages_roles("CREATE SCHEMA Role", Dialect.GOOGLESQL)
    assert manages_roles("DROP TABLE T # ; GRANT a TO b", Dialect.POSTGRESQL)
    assert manages_roles("DROP TABLE $$ ' $$ ; GRANT a TO b --'", Dialect.POSTGRESQL)
    for text in (
        "CREATE TABLE t (role text DEFAULT 'grant', id bigint PRIMARY KEY) -- the role",
        "/* GRANT /* nested */ */ DROP TABLE t",
        """ALTER TABLE t ALTER COLUMN "role" SET DEFAULT E'\\'; GRANT a TO b'""",
        "CREATE TABLE t (a text DEFAULT $$; GRANT a TO b$$)",
    ):
        assert not manages_roles(text, Dialect.POSTGRESQL)
