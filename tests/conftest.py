"""Fixtures that several folders share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

# Tests start processes while gRPC channels are open; in the forked child, gRPC's own handlers can end it by SIGABRT.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

from spangate.adapters.zetasql_engine import WasmEngine, precompile


@pytest.fixture(scope="session")
def zetasql_engine() -> Iterator[WasmEngine]:
    """The real GoogleSQL analyser. Tests that break it make their own."""
    precompile()
    engine = WasmEngine()
    yield engine
    engine.close()
