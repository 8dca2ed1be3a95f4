"""Promise: UNAVAILABLE only when Spangate cannot decide; a burst after a pause is no reason."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from google.cloud.spanner_v1 import types

from e2e.harness import CHECKOUT, SERVICE, SESSION, encode, site
from spangate.settings import INTERVALS

pytestmark = pytest.mark.e2e

# More than the checkpoint's door takes connections.
REQUESTS = 600


def test_a_burst_after_a_pause_is_answered(tmp_path: Path) -> None:
    select = encode(types.ExecuteSqlRequest(session=SESSION, sql="SELECT OrderId FROM Orders"))
    with site(tmp_path) as own, own.start_gateway().client(CHECKOUT) as client:
        call = client.channel.unary_unary(SERVICE + "ExecuteSql")
        call(select, timeout=20)
        # Longer than the grace: every worker must ask again, for each request that comes before the answer.
        time.sleep(INTERVALS.grace_ms / 1000 + 0.5)
        pending = [call.future(select, timeout=30) for _ in range(REQUESTS)]
        refused = [str(future.exception()) for future in pending if future.exception() is not None]
        assert refused == []
