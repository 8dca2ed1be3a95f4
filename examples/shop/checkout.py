"""Places an order: DML with THEN RETURN, batch DML, mutations in a transaction, reads. Run it as `checkout`."""

from __future__ import annotations

import sys
import uuid
from decimal import Decimal

import shop
from google.cloud.spanner_v1 import COMMIT_TIMESTAMP, KeySet, param_types
from google.cloud.spanner_v1.database import Database
from google.cloud.spanner_v1.transaction import Transaction

INSERT_ORDER = (
    "INSERT INTO Orders (OrderId, CustomerId, Status, Total, UpdatedAt) "
    "VALUES (@order, @customer, 'new', @total, PENDING_COMMIT_TIMESTAMP()) THEN RETURN OrderId, Status"
)
INSERT_ITEM = (
    "INSERT INTO OrderItems (OrderId, ItemNo, Product, Quantity, Price) "
    "VALUES (@order, @item, @product, @quantity, @price)"
)
PAY = (
    "UPDATE Orders SET Status = 'paid', UpdatedAt = PENDING_COMMIT_TIMESTAMP() "
    "WHERE OrderId = @order AND Status = 'new' THEN RETURN Status"
)
READ_BACK = (
    "SELECT o.Status, o.Total, SUM(i.Quantity * i.Price) AS Sum, COUNT(*) AS Items "
    "FROM Orders AS o JOIN OrderItems AS i ON i.OrderId = o.OrderId WHERE o.OrderId = @order "
    "GROUP BY o.Status, o.Total"
)
BASKET = [("keyboard", 1, Decimal("79.90")), ("cable", 3, Decimal("4.50"))]
GIFT_WRAP = ("gift wrap", 1, Decimal("2.00"))


def first_customer(database: Database) -> tuple[str, str]:
    """A read without SQL: table, columns, keys."""
    with database.snapshot() as snapshot:
        rows = list(snapshot.read("Customers", ("CustomerId", "Name"), KeySet(all_=True), limit=1))
    if not rows:
        raise SystemExit("checkout: there are no customers yet; run load.py first")
    customer, name = rows[0]
    return customer, name


def place(database: Database, order: str, customer: str) -> None:
    """DML: the order, and its items in one batch."""

    def work(transaction: Transaction) -> Transaction:
        total = sum((quantity * price for _, quantity, price in BASKET), Decimal(0))
        types = {"order": param_types.STRING, "customer": param_types.STRING, "total": param_types.NUMERIC}
        values = {"order": order, "customer": customer, "total": total}
        ((returned, status),) = transaction.execute_sql(INSERT_ORDER, params=values, param_types=types)
        item_types = {
            "order": param_types.STRING,
            "item": param_types.INT64,
            "product": param_types.STRING,
            "quantity": param_types.INT64,
            "price": param_types.NUMERIC,
        }
        items = [
            (INSERT_ITEM, {"order": order, "item": i, "product": p, "quantity": q, "price": price}, item_types)
            for i, (p, q, price) in enumerate(BASKET, start=1)
        ]
        status_of_batch, counts = transaction.batch_update(items)
        if status_of_batch.code != 0:
            raise RuntimeError(f"batch DML failed: {status_of_batch.message}")
        print(f"checkout: order {returned[:8]} is `{status}`, {sum(counts)} items, total {total:.2f}")
        return transaction

    print(f"checkout: committed at {database.run_in_transaction(work).committed}")


def wrap(database: Database, order: str) -> None:
    """Mutations in a transaction that reads first."""

    def work(transaction: Transaction) -> Transaction:
        product, quantity, price = GIFT_WRAP
        ((total,),) = transaction.read("Orders", ("Total",), KeySet(keys=[[order]]))
        transaction.insert(
            "OrderItems",
            ("OrderId", "ItemNo", "Product", "Quantity", "Price"),
            [(order, len(BASKET) + 1, product, quantity, price)],
        )
        transaction.update(
            "Orders", ("OrderId", "Total", "UpdatedAt"), [(order, total + quantity * price, COMMIT_TIMESTAMP)]
        )
        return transaction

    print(f"checkout: {GIFT_WRAP[0]} added, committed at {database.run_in_transaction(work).committed}")


def pay(database: Database, order: str) -> None:
    def work(transaction: Transaction) -> str:
        ((status,),) = transaction.execute_sql(PAY, params={"order": order}, param_types={"order": param_types.STRING})
        return str(status)

    print(f"checkout: order {order[:8]} is `{database.run_in_transaction(work)}`")


def checkout() -> bool:
    with shop.database() as database:
        order = str(uuid.uuid4())
        customer, name = first_customer(database)
        print(f"checkout: an order for {name} ({customer})")
        place(database, order, customer)
        wrap(database, order)
        pay(database, order)
        with database.snapshot() as snapshot:
            ((status, total, items_sum, items),) = snapshot.execute_sql(
                READ_BACK, params={"order": order}, param_types={"order": param_types.STRING}
            )
        print(f"checkout: read back `{status}`, {items} items, total {total:.2f}")
        return (status, total, items) == ("paid", items_sum, len(BASKET) + 1)


if __name__ == "__main__":
    sys.exit(shop.run(checkout))
