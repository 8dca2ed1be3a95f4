"""Loads the shop's customers with mutations. Run it as `loader`; running it again changes nothing."""

from __future__ import annotations

import sys

import shop

CUSTOMERS = [
    ("c-1001", "Ada", "ada@shop.example", "emea"),
    ("c-1002", "Grace", "grace@shop.example", "amer"),
    ("c-1003", "Edsger", "edsger@shop.example", "emea"),
    ("c-1004", "Yukihiro", "yukihiro@shop.example", "apac"),
]


def load() -> bool:
    with shop.database() as database:
        with database.batch() as batch:
            batch.insert_or_update(
                table="Customers", columns=("CustomerId", "Name", "Email", "Region"), values=CUSTOMERS
            )
        print(f"loader: {len(CUSTOMERS)} customers, committed at {batch.committed}")
    return True


if __name__ == "__main__":
    sys.exit(shop.run(load))
