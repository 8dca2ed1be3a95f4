"""Lowering the memory limit inside a WebAssembly module."""

from __future__ import annotations

import pytest
import wasmtime
from zetasql.wasi import get_wasm_path

from spangate.adapters.wasm_memory import PAGE_BYTES, with_memory_limit

TEXT = """
(module
  (memory 1 40000)
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0))))
"""


def grow(wasm: bytes, pages: int) -> int:
    store = wasmtime.Store()
    instance = wasmtime.Instance(store, wasmtime.Module(store.engine, wasm), [])
    result = instance.exports(store)["grow"](store, pages)
    assert isinstance(result, int)
    return result


def test_memory_grows_up_to_the_limit_and_no_further() -> None:
    wasm = with_memory_limit(bytes(wasmtime.wat2wasm(TEXT)), 3 * PAGE_BYTES)
    assert grow(wasm, 2) == 1
    assert grow(wasm, 3) == -1


def test_nothing_else_moves() -> None:
    wasm = bytes(wasmtime.wat2wasm(TEXT))
    assert len(with_memory_limit(wasm, PAGE_BYTES)) == len(wasm)


def test_the_analyser_itself_can_be_limited() -> None:
    wasm = get_wasm_path().read_bytes()
    limited = with_memory_limit(wasm, 512 * 1024 * 1024)
    assert len(limited) == len(wasm)
    assert limited != wasm


@pytest.mark.parametrize("size", [0, 40_001 * PAGE_BYTES])
def test_a_limit_outside_of_the_modules_own_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="pages"):
        with_memory_limit(bytes(wasmtime.wat2wasm(TEXT)), size)


def test_a_memory_without_a_maximum_is_refused() -> None:
    with pytest.raises(ValueError, match="with a maximum"):
        with_memory_limit(bytes(wasmtime.wat2wasm("(module (memory 1))")), PAGE_BYTES)


def test_a_module_without_memory_is_refused() -> None:
    with pytest.raises(ValueError, match="no memory"):
        with_memory_limit(bytes(wasmtime.wat2wasm("(module)")), PAGE_BYTES)
