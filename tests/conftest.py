"""Fixtures that several folders share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from spangate.adapters.zetasql_engine import WasmEngine, precompile


@pytest.fixture(scope="session")
def zetasql_engine() -> Iterator[WasmEngine]:
    """The real GoogleSQL analyser. Tests that break it make their own."""
    precompile()
    engine = WasmEngine()
    yield engine
    engine.close()
