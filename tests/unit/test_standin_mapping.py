"""Attribute mappings and conditions in CEL, by Google's own implementation and IAM's `extract`."""

from __future__ import annotations

from typing import Any

import pytest

from spangate.standin.mapping import BadExpression, Condition, Mappings, TooLong, Unmapped, extract

OBJECT = "projects/_/buckets/acme-orders-aaa/data_lake/orders/order_date=2019-11-03/aef87g87ae0876"


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("/order_date={date}/", "2019-11-03"),
        ("buckets/{name}/", "acme-orders-aaa"),
        ("/orders/{empty}order_date", ""),
        ("{start}/buckets", "projects/_"),
        ("orders/{end}", "order_date=2019-11-03/aef87g87ae0876"),
        ("{all}", OBJECT),
        ("/orders/{none}/order_date=", ""),
        ("/orders/order_date=2019-11-03/{id}/data_lake", ""),
    ],
)
def test_extract_is_iams(template: str, expected: str) -> None:
    assert extract(OBJECT, template) == expected


@pytest.mark.parametrize("template", ["", "x", "{a}{b}", "{a}/{b}", "{}", "{1a}"])
def test_a_template_has_exactly_one_placeholder(template: str) -> None:
    with pytest.raises(ValueError, match="placeholder"):
        extract(OBJECT, template)
    with pytest.raises(Unmapped):
        Mappings.compile({"google.subject": f"assertion.sub.extract('{template}')"}).map({"sub": OBJECT})


def mapped(expression: str, **claims: Any) -> str:
    return Mappings.compile({"google.subject": expression}).map(claims).subject


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("assertion.sub", "repo:a/b"),
        ("assertion.sub.extract('repo:{it}')", "a/b"),
        ("assertion.sub.split(':')[1]", "a/b"),
        ("assertion.sub.startsWith('repo') ? 'yes' : 'no'", "yes"),
        ("'groups' in assertion ? assertion.groups.join('-') : 'none'", "x-y"),
        ("assertion.sub.upperAscii()", "REPO:A/B"),
        ("has(assertion.other) ? assertion.other : assertion['sub']", "repo:a/b"),
        ("string(assertion.big > 1.0)", "true"),
    ],
)
def test_expressions_are_cel_with_googles_functions(expression: str, expected: str) -> None:
    assert mapped(expression, sub="repo:a/b", groups=["x", "y"], big=2**80) == expected


@pytest.mark.parametrize(
    "claims", [{}, {"sub": ""}, {"sub": None}, {"sub": 5}, {"sub": ["a"]}, {"sub": {"a": 1}}, {"sub": "\ud800"}]
)
def test_what_gives_no_text_gives_no_subject(claims: dict[str, Any]) -> None:
    with pytest.raises(Unmapped):
        mapped("assertion.sub", **claims)


def test_an_attribute_without_value_is_left_out() -> None:
    found = Mappings.compile(
        {"google.subject": "assertion.sub", "attribute.a": "assertion.a", "attribute.b": "assertion.b"}
    ).map({"sub": "s", "a": True})
    assert found.attributes == {"a": "true"}


def test_too_long_values_are_named() -> None:
    mappings = Mappings.compile({"google.subject": "assertion.sub", "attribute.a": "assertion.a"})
    with pytest.raises(TooLong) as error:
        mappings.map({"sub": "s" * 128})
    assert (error.value.name, error.value.bytes_max) == ("google.subject", 127)
    with pytest.raises(TooLong) as error:
        mappings.map({"sub": "s", "a": "a" * 8192})
    assert (error.value.name, error.value.bytes_max) == ("attribute.a", 8192)


@pytest.mark.parametrize(
    ("condition", "met"),
    [
        ("assertion.sub == 's'", True),
        ("google.subject == 's' && 'staff' in google.groups && attribute.a == 'x'", True),
        ("assertion.sub == 't'", False),
        ("assertion.missing == 's'", False),
        ("assertion.sub", False),
        ("assertion.flag", True),
        ("attribute.missing == ''", False),
    ],
)
def test_a_condition_is_met_only_by_true(condition: str, met: bool) -> None:
    mappings = Mappings.compile({"google.subject": "assertion.sub", "google.groups": "['staff']", "attribute.a": "'x'"})
    claims = {"sub": "s", "flag": True}
    assert Condition.compile(condition).is_met(claims, mappings.map(claims)) is met


@pytest.mark.parametrize("text", ["", " ", "(" * 2000, "1 +", "5", "a.b"])
def test_what_is_no_condition_is_not_stored(text: str) -> None:
    with pytest.raises(BadExpression):
        Condition.compile(text)
