"""The filter's text: shorter than its modules, and the same program."""

from __future__ import annotations

import pytest
from lupa.luajit21 import LuaRuntime

from spangate.dataplane import MODULES, module_source, shortened

_BYTECODE = "function(text) return string.dump(assert(loadstring(text)), 'sd') end"


def bytecode(source: str) -> bytes:
    """What LuaJIT makes of it, without the names and lines that are for people, in an order that does not vary."""
    return LuaRuntime(encoding=None).eval(_BYTECODE)(source.encode())


@pytest.mark.parametrize("name", MODULES)
def test_a_module_without_comments_and_spaces_is_the_same_program_on_the_same_lines(name: str) -> None:
    source = module_source(name)
    found = shortened(source)
    assert len(found) < len(source)
    assert found.count("\n") == source.count("\n")
    assert bytecode(found) == bytecode(source)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("local a = b - -c -- d", "local a=b- -c"),
        ("return 1 .. x .. 2", "return 1 .. x .. 2"),
        ('return "--  no comment" .. x', 'return"--  no comment".. x'),
        ("return 'it\\'s -- all' , 2", "return'it\\'s -- all',2"),
        ("return a[ [[k]] ]", "return a[ [[k]]]"),
        ("if a ~= b then return not c end", "if a~=b then return not c end"),
        ("return a < b, c > d, e == f, g . h", "return a<b,c>d,e==f,g . h"),
    ],
)
def test_nothing_that_could_be_read_as_another_token_is_joined(source: str, expected: str) -> None:
    assert shortened(source) == expected


@pytest.mark.parametrize("name", MODULES)
def test_no_module_has_a_text_over_several_lines(name: str) -> None:
    assert "[[" not in module_source(name)
    assert "[=" not in module_source(name)
