"""Statements, schemas and intents of the size that is asked for."""

from __future__ import annotations

from pathlib import Path

# The load's statement on the shop of examples/shop.
SQL = "SELECT o.Status, o.Total FROM Orders AS o WHERE o.OrderId = 'd4d182d4-0d2c-4a9e-9d0f-2f3a44d7a6c1'"


def shop_statement(number: int) -> str:
    """A statement on the shop that no other number gives, and that a literal alone does not tell from others."""
    return f"SELECT o.Status AS c{number}, o.Total FROM Orders AS o WHERE o.OrderId = @id"


def shop_statement_with_literal(number: int) -> str:
    """A statement on the shop that differs from others in its literals only."""
    return f"SELECT o.Status, o.Total FROM Orders AS o WHERE o.OrderId = 'order-{number:06}' AND o.Total > {number}"


def wide_schema(tables: int) -> str:
    """DDL of `tables` tables with eight columns each."""
    return "\n".join(
        f"CREATE TABLE Table{number} (Id INT64 NOT NULL, ParentId INT64, Name STRING(100), Region STRING(20), "
        "Total NUMERIC, Note STRING(MAX), CreatedAt TIMESTAMP, Tags ARRAY<STRING(20)>) PRIMARY KEY (Id);"
        for number in range(tables)
    )


def wide_statement(number: int, tables: int) -> str:
    """A join over the wide schema that no other number gives."""
    left, right = number % tables, (number * 7 + 1) % tables
    return (
        f"SELECT a.Name AS n{number}, b.Total FROM Table{left} AS a JOIN Table{right} AS b ON b.ParentId = a.Id "
        "WHERE a.Region = @region AND b.CreatedAt > @since ORDER BY b.CreatedAt DESC LIMIT 20"
    )


def write_wide_intent(folder: Path, tables: int) -> Path:
    """An intent file in `folder` that lets checkout read all of a wide schema."""
    (folder / "wide.sql").write_text(wide_schema(tables))
    names = ", ".join(f"Table{number}" for number in range(tables))
    intent = folder / "wide.yaml"
    intent.write_text(
        "spangate: v1\n"
        "trust_domain: shop.example\n"
        "databases:\n  shop: {instance: main, database: shop, schema: wide.sql}\n"
        "identities:\n  checkout: {workload: shop/checkout}\n"
        f"access:\n  checkout:\n    shop:\n      read: [{names}]\n"
    )
    return intent
