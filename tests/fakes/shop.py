"""The shop of the design's example: its schema as a value, its intent file as text, its parts under short names."""

from __future__ import annotations

from spangate.intent import check_intent, parse_intent
from spangate.model.database import DatabasePath
from spangate.model.identity import SpiffeId
from spangate.model.policy import Policy
from spangate.model.schema import Column, Index, Schema, Table

FILE = "spangate.yaml"

INTENT = """\
spangate: v1
trust_domain: shop.example

databases:
  shop: {instance: main, database: shop, schema: schema.sql}    # the schema gives names their meaning

identities:
  checkout: {workload: shop/checkout}          # namespace/service account
  reports:  {workload: analytics/reports}
  copilot:  {agent: tools/copilot}

access:
  checkout:
    shop:
      read:   [Customers(CustomerId, Name), Orders, OrderItems]
      insert: [Orders, OrderItems]
      update: [Orders(Status)]
  reports:
    shop:
      read: [Orders, OrderItems, Customers(CustomerId, Region)]
"""


def table(name: str, *columns: str) -> Table:
    """A table of text columns whose first is its key."""
    return Table(name, tuple(Column(column, "STRING(MAX)") for column in columns), columns[:1])


SCHEMA = Schema(
    tables=(
        table("Customers", "CustomerId", "Name", "Email", "Region"),
        table("Orders", "OrderId", "CustomerId", "Status", "Total"),
        table("OrderItems", "OrderId", "Item", "Quantity"),
    ),
    indexes=(Index("CustomersByEmail", "Customers", ("Email",)),),
)
PATH = DatabasePath("spangate-local", "main", "shop")
CHECKOUT = SpiffeId.workload("shop.example", "shop", "checkout")
REPORTS = SpiffeId.workload("shop.example", "analytics", "reports")
COPILOT = SpiffeId.workload("shop.example", "tools", "copilot")
STRANGER = SpiffeId.workload("shop.example", "shop", "stranger")


def policy(intent: str = INTENT, schema: Schema = SCHEMA) -> Policy:
    """The checked policy of an intent file about the shop, by default of the example."""
    tree = parse_intent(intent, FILE)
    return check_intent(tree, {entry.alias.text: schema for entry in tree.databases})
