"""Reads and aggregates, and once reaches for what it may not have: e-mail addresses. Run it as `reports`."""

from __future__ import annotations

import sys
from typing import Any

import shop
from google.api_core.exceptions import PermissionDenied
from google.cloud.spanner_v1.database import Database

BY_REGION = (
    "SELECT c.Region, COUNT(*) AS Orders, SUM(o.Total) AS Revenue "
    "FROM Orders AS o JOIN Customers AS c ON c.CustomerId = o.CustomerId GROUP BY c.Region ORDER BY c.Region"
)
BEST_SELLERS = (
    "SELECT Product, SUM(Quantity) AS Sold FROM OrderItems GROUP BY Product ORDER BY Sold DESC, Product LIMIT 3"
)
EMAILS = "SELECT c.Email FROM Customers AS c"


def rows(database: Database, sql: str) -> list[list[Any]]:
    with database.snapshot() as snapshot:
        return list(snapshot.execute_sql(sql))


def reports() -> bool:
    with shop.database() as database:
        regions = rows(database, BY_REGION)
        for region, orders, revenue in regions:
            print(f"reports: {region}: {orders} orders, revenue {revenue:.2f}")
        sellers = rows(database, BEST_SELLERS)
        print("reports: best sellers: " + ", ".join(f"{product} ({sold})" for product, sold in sellers))
        try:
            emails = rows(database, EMAILS)
        except PermissionDenied as denied:
            print(f"reports: e-mail addresses: denied, as it should be:\n  {denied.message}")
            return bool(regions and sellers)
        print(f"reports: read {len(emails)} e-mail addresses; nothing stands between this program and the database")
        return False


if __name__ == "__main__":
    sys.exit(shop.run(reports))
