"""Graph queries read the tables behind the graph."""

# ruff: noqa: E501 - one example, one line
from __future__ import annotations

import pytest

from spangate.adapters.zetasql_engine import WasmEngine
from spangate.model.access import Access
from spangate.sql.ddl import parse_ddl
from spangate.sql.googlesql import Analyzer, UnreadableStatement

SCHEMA = parse_ddl("""
CREATE TABLE Person (Id INT64, Name STRING(MAX), Secret STRING(MAX)) PRIMARY KEY (Id);
CREATE TABLE Account (Id INT64, Nick STRING(MAX), Balance INT64) PRIMARY KEY (Id);
CREATE TABLE Owns (Id INT64, AccountId INT64, Since TIMESTAMP, Note STRING(MAX)) PRIMARY KEY (Id, AccountId);
CREATE TABLE Other (Id INT64, Name STRING(MAX)) PRIMARY KEY (Id);
CREATE SCHEMA s;
CREATE VIEW PersonView SQL SECURITY DEFINER AS SELECT p.Id FROM Person p;
CREATE PROPERTY GRAPH G
  NODE TABLES (
    Person LABEL Human PROPERTIES (Name, CONCAT(Secret, Name) AS loud),
    Account
  )
  EDGE TABLES (
    Owns SOURCE KEY (Id) REFERENCES Person (Id) DESTINATION KEY (AccountId) REFERENCES Account (Id) PROPERTIES (Since)
  );
CREATE PROPERTY GRAPH s.Small NODE TABLES (Other AS o KEY (Id) NO PROPERTIES);
CREATE PROPERTY GRAPH OnView NODE TABLES (PersonView KEY (Id));
CREATE PROPERTY GRAPH Hidden NODE TABLES (Person PROPERTIES ((SELECT MAX(o.Name) FROM Other o) AS x));
CREATE PROPERTY GRAPH Broken NODE TABLES (Nothing);
CREATE PROPERTY GRAPH Gone NODE TABLES (Person);
DROP PROPERTY GRAPH Gone;
CREATE VIEW OverGraph SQL SECURITY INVOKER AS SELECT g.n FROM GRAPH_TABLE(G MATCH (p:Human) RETURN p.Name AS n) g;
""")
WHOLE_PERSON = "read Person(*, Id, Name, Secret)"
PATH = "read Account(Id); read Owns(AccountId, Id); read Person(Id)"

STATEMENTS = [
    ("GRAPH G MATCH (p:Human) RETURN p.Name", "read Person(Id, Name)"),
    ("GRAPH g MATCH (p:human) RETURN p.name", "read Person(Id, Name)"),
    ("GRAPH G MATCH (p:Human) RETURN p.loud", "read Person(Id, Name, Secret)"),
    ("GRAPH G MATCH (p:Human) RETURN 1 AS x", "read Person(Id)"),
    ("GRAPH G MATCH (p:Human) RETURN COUNT(*) AS n", "read Person(Id)"),
    ("GRAPH G MATCH (p:Human {Name: 'x'}) RETURN 1 AS x", "read Person(Id, Name)"),
    ("GRAPH G MATCH (p:Human WHERE p.loud = 'x') RETURN 1 AS x", "read Person(Id, Name, Secret)"),
    ("GRAPH G MATCH (n) RETURN n.Nick", "read Account(Id, Nick); read Person(Id)"),
    ("GRAPH G MATCH (p)-[o:Owns]->(a) RETURN 1 AS x", PATH),
    ("GRAPH G MATCH -[o:Owns]-> RETURN o.Since", "read Account(Id); read Owns(AccountId, Id, Since); read Person(Id)"),
    ("GRAPH G MATCH (p)-[o]->{1,3}(a) RETURN a.Balance", "read Account(Balance, Id); read Owns(AccountId, Id); read Person(Id)"),
    ("GRAPH G MATCH ANY SHORTEST (a)-[o:Owns]->{1,4}(b) RETURN b.Nick", "read Account(Id, Nick); read Owns(AccountId, Id); read Person(Id)"),
    ("GRAPH G MATCH (p:Human) FILTER p.Name = 'x' ORDER BY p.loud LIMIT 1 RETURN 1 AS x", "read Person(Id, Name, Secret)"),
    ("GRAPH G MATCH (p:Human) LET x = p.Name RETURN x NEXT RETURN x", "read Person(Id, Name)"),
    ("GRAPH G MATCH (a:Account) RETURN a.Nick AS n UNION ALL MATCH (p:Human) RETURN p.Name AS n", "read Account(Id, Nick); read Person(Id, Name)"),
    ("SELECT n FROM GRAPH_TABLE(G MATCH (p:Human) RETURN p.Name AS n) JOIN Other ON Other.Name = n", "read Other(Name); read Person(Id, Name)"),
    ("SELECT EXISTS (SELECT 1 FROM GRAPH_TABLE(G MATCH (p:Human) RETURN p.Name AS n))", "read Person(Id, Name)"),
    ("GRAPH s.Small MATCH (x) RETURN COUNT(*) AS n", "read Other(Id)"),
    ("SELECT n FROM OverGraph", "read OverGraph; read Person(Id, Name)"),
    ("INSERT INTO Other (Id, Name) SELECT 1, n FROM GRAPH_TABLE(G MATCH (p:Human) RETURN p.Name AS n)", "insert Other(Id, Name); read Person(Id, Name)"),
    # An element as a value is all of its properties.
    ("GRAPH G MATCH (p:Human) RETURN TO_JSON(p) AS j", WHOLE_PERSON),
    ("GRAPH G MATCH (p:Human) RETURN SAFE_TO_JSON(p) AS j", WHOLE_PERSON),
    ("GRAPH G MATCH (p:Human) LET q = p RETURN q.Name", WHOLE_PERSON),
    ("SELECT p.Name FROM GRAPH_TABLE(G MATCH (p:Human) RETURN p)", WHOLE_PERSON),
    ("SELECT 1 FROM GRAPH_TABLE(G MATCH (p:Human) RETURN p) WHERE p IS NULL", WHOLE_PERSON),
    ("GRAPH G MATCH (p:Human)-[o]->{1,2}(a) RETURN ARRAY_LENGTH(o) AS n", f"read Account(*, Balance, Id, Nick); read Owns(*, AccountId, Id, Since); {WHOLE_PERSON}"),
]  # fmt: skip

UNREADABLE = [
    ("GRAPH G MATCH (p:Human) RETURN p.Secret", "Secret"),
    ("GRAPH G MATCH (o:Owns) RETURN o.Note", ""),
    ("GRAPH G MATCH (p:Nothing) RETURN 1 AS x", "Nothing"),
    ("GRAPH G MATCH (p:Human) RETURN p", "not allowed"),
    ("SELECT * FROM GRAPH_TABLE(G MATCH (p:Human) RETURN p)", "not allowed"),
    ("GRAPH Nothing MATCH (p) RETURN 1 AS x", "not found"),
    ("GRAPH OnView MATCH (p) RETURN 1 AS x", "not found"),
    ("GRAPH Hidden MATCH (p) RETURN 1 AS x", "not found"),
    ("GRAPH Broken MATCH (p) RETURN 1 AS x", "not found"),
    ("GRAPH Gone MATCH (p) RETURN 1 AS x", "not found"),
    ("SELECT * FROM G", "Table not found"),
    ("CREATE PROPERTY GRAPH X NODE TABLES (Person)", "not supported"),
]  # fmt: skip


@pytest.fixture(scope="module")
def analyzer(zetasql_engine: WasmEngine) -> Analyzer:
    return Analyzer(zetasql_engine, SCHEMA)


def line(access: Access) -> str:
    inside = [*(["*"] if access.every else []), *access.columns]
    return f"{access.operation} {access.table}" + (f"({', '.join(inside)})" if inside else "")


@pytest.mark.parametrize(("sql", "expected"), STATEMENTS, ids=[sql for sql, _ in STATEMENTS])
def test_a_graph_query_reads_exactly(analyzer: Analyzer, sql: str, expected: str) -> None:
    assert "; ".join(map(line, analyzer.accesses(sql, {}))) == expected


@pytest.mark.parametrize(("sql", "reason"), UNREADABLE, ids=[sql for sql, _ in UNREADABLE])
def test_a_graph_query_is_unreadable(analyzer: Analyzer, sql: str, reason: str) -> None:
    with pytest.raises(UnreadableStatement) as caught:
        analyzer.accesses(sql, {})
    assert reason in caught.value.message
