"""Measures a point query directly and through the gateway, call by call in turn, and prints JSON.

Run it as `checkout`: latency.py --direct HOST:PORT --through HOST:PORT [--calls N]. Times are milliseconds as the
program sees them, the client library's own share included on both sides.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from contextlib import ExitStack

import shop
from google.auth.credentials import AnonymousCredentials
from google.cloud import spanner
from google.cloud.spanner_v1 import param_types
from google.cloud.spanner_v1.database import Database

POINT_QUERY = "SELECT Name FROM Customers WHERE CustomerId = @customer"
# Connections, sessions, the first sight of the statement and the client's own caches are not what is measured.
WARM_UP_CALLS = 20
CALLS_MAX = 100_000


def client_at(address: str) -> spanner.Client:
    """A client for one address; without this, SPANNER_EMULATOR_HOST decides for all clients of a process."""
    return spanner.Client(
        credentials=AnonymousCredentials(), client_options={"api_endpoint": address}, disable_builtin_metrics=True
    )


def call(database: Database) -> float:
    """One point query; the time it took in milliseconds."""
    begin = time.perf_counter()
    with database.snapshot() as snapshot:
        list(
            snapshot.execute_sql(
                POINT_QUERY, params={"customer": "c-1001"}, param_types={"customer": param_types.STRING}
            )
        )
    return (time.perf_counter() - begin) * 1000


def quantile(sorted_times: list[float], q: float) -> float:
    """The nearest-rank quantile, to the microsecond."""
    return round(sorted_times[min(len(sorted_times) - 1, int(q * len(sorted_times)))], 3)


def measure(addresses: dict[str, str], calls: int) -> dict[str, object]:
    with ExitStack() as stack:
        databases = {name: stack.enter_context(shop.database(client_at(at))) for name, at in addresses.items()}
        times: dict[str, list[float]] = {name: [] for name in databases}
        for number in range(WARM_UP_CALLS + calls):
            for name, database in databases.items():
                took = call(database)
                if number >= WARM_UP_CALLS:
                    times[name].append(took)
    found = {
        name: {"p50_ms": quantile(sorted(t), 0.5), "p99_ms": quantile(sorted(t), 0.99)} for name, t in times.items()
    }
    added = {key: round(found["through"][key] - found["direct"][key], 3) for key in ("p50_ms", "p99_ms")}
    return {"calls": calls, **found, "added": added}


def number_of_calls(text: str) -> int:
    calls = int(text)
    if not 1 <= calls <= CALLS_MAX:
        raise argparse.ArgumentTypeError(f"{calls} is not between 1 and {CALLS_MAX}")
    return calls


def main() -> bool:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--direct", required=True, metavar="HOST:PORT")
    parser.add_argument("--through", required=True, metavar="HOST:PORT")
    parser.add_argument("--calls", type=number_of_calls, default=300, metavar="N")
    arguments = parser.parse_args()
    os.environ.pop("SPANNER_EMULATOR_HOST", None)
    print(json.dumps(measure({"direct": arguments.direct, "through": arguments.through}, arguments.calls)))
    return True


if __name__ == "__main__":
    sys.exit(shop.run(main))
