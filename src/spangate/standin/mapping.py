"""Attribute mappings and conditions: CEL over the claims of a credential, with Google's limits.

Rules (iam v1, WorkloadIdentityPoolProvider.attributeMapping, attributeCondition): `google.subject` must be mapped, and
to at most 127 bytes; up to 50 attributes of one's own; expressions of at most 2,048 characters, conditions of at most
4,096; the mapped values together at most 8 KB. `assertion` is the credential; conditions see `google` and `attribute`
too. CEL is Google's own implementation (cel-cpp); `extract`, which only IAM has, is added here.
An expression that fails maps to nothing; a condition that fails is not met.
Not here: where claims come from (id_token.py, certificates.py), the answers (sts.py).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cel_expr_python import cel
from cel_expr_python.ext import ext_strings

from spangate.model.google import SUBJECT_BYTES_MAX

SUBJECT = "google.subject"
GROUPS = "google.groups"
# What iam v1 lets be mapped besides; it is displayed and logged, no more.
_GOOGLE = frozenset({SUBJECT, GROUPS, "google.display_name", "google.posix_username"})
CUSTOM_MAX = 50
KEY_CHARACTERS_MAX = 100
EXPRESSION_CHARACTERS_MAX = 2048
CONDITION_CHARACTERS_MAX = 4096
VALUES_BYTES_MAX = 8 * 1024
_CUSTOM = re.compile(r"attribute\.([a-z0-9_]+)", re.ASCII)
_PLACEHOLDER = re.compile(r"\{[A-Za-z_][A-Za-z0-9_]*\}", re.ASCII)
_INT64 = 2**63


class BadExpression(ValueError):
    """A mapping or condition that Google would not store; `where` says which."""

    def __init__(self, where: str, why: str) -> None:
        super().__init__(why)
        self.where = where


class Unmapped(Exception):
    """There is no subject in the credential."""


class TooLong(Exception):
    """A mapped value is longer than `bytes_max`."""

    def __init__(self, name: str, bytes_max: int) -> None:
        super().__init__(name)
        self.name = name
        self.bytes_max = bytes_max


@dataclass(frozen=True, slots=True)
class Mapped:
    """Who the holder of a credential is to Google."""

    subject: str
    groups: tuple[str, ...] = ()
    attributes: Mapping[str, str] = field(default_factory=dict)


def extract(text: str, template: str) -> str:
    """What stands in `text` where `template` has its one `{placeholder}`; empty where the template does not fit.

    The text before the placeholder is looked for first, then the next occurrence of what follows it; with nothing
    behind it, the placeholder reaches to the end. Source: "extract()" in IAM's attribute reference for conditions.
    """
    found = list(_PLACEHOLDER.finditer(template))
    if len(found) != 1:
        raise ValueError("the template has not exactly one placeholder")
    before, behind = template[: found[0].start()], template[found[0].end() :]
    at = text.find(before)
    if at < 0:
        return ""
    begin = at + len(before)
    end = text.find(behind, begin) if behind else len(text)
    return text[begin:end] if end >= 0 else ""


def _environment() -> cel.Env:
    overload = cel.Overload(
        "extract_string_string",
        return_type=cel.Type.STRING,
        parameters=[cel.Type.STRING, cel.Type.STRING],
        is_member=True,
        impl=extract,
    )
    return cel.NewEnv(
        variables=dict.fromkeys(("assertion", "google", "attribute"), cel.Type.DYN),
        extensions=[ext_strings.ExtStrings()],
        functions=[cel.FunctionDecl("extract", [overload])],
    )


_ENVIRONMENT = _environment()


class _Expression:
    """One compiled expression."""

    def __init__(self, where: str, text: str, characters_max: int) -> None:
        if not text.strip():
            raise BadExpression(where, "is empty")
        if len(text) > characters_max:
            raise BadExpression(where, f"is longer than {characters_max} characters")
        try:
            self._program = _ENVIRONMENT.compile(text)
        except RuntimeError as error:
            raise BadExpression(where, f"is not CEL: {str(error).splitlines()[0]}") from error
        self.type = self._program.return_type()

    def value(self, **variables: object) -> object:
        """The value, or None where there is none."""
        try:
            found = self._program.eval(data=variables)
            return None if found.type() == cel.Type.ERROR else found.plain_value()
        except RuntimeError:  # what CEL cannot hold, such as half of a surrogate pair
            return None


@dataclass(frozen=True, slots=True)
class Mappings:
    """The mapping of a provider, compiled."""

    _by_key: Mapping[str, _Expression]

    @classmethod
    def compile(cls, texts: Mapping[str, str]) -> Mappings:
        """Raises BadExpression."""
        where = "attributeMapping"
        if SUBJECT not in texts:
            raise BadExpression(where, f"does not map `{SUBJECT}`")
        custom = [key for key in texts if key not in _GOOGLE]
        if len(custom) > CUSTOM_MAX:
            raise BadExpression(where, f"maps more than {CUSTOM_MAX} attributes")
        for key in custom:
            if not _CUSTOM.fullmatch(key) or len(key) > KEY_CHARACTERS_MAX:
                raise BadExpression(f"{where}.{key}", "is neither Google's nor attribute.<a-z, 0-9, _>")
        return cls({key: _Expression(f"{where}.{key}", text, EXPRESSION_CHARACTERS_MAX) for key, text in texts.items()})

    def map(self, assertion: Mapping[str, Any]) -> Mapped:
        """Who that is. Raises Unmapped or TooLong."""
        held = _held(assertion)
        values = {key: expression.value(assertion=held) for key, expression in self._by_key.items()}
        subject = values[SUBJECT]
        if not isinstance(subject, str) or not subject:
            raise Unmapped
        if len(subject.encode()) > SUBJECT_BYTES_MAX:
            raise TooLong(SUBJECT, SUBJECT_BYTES_MAX)
        attributes = {
            key.partition(".")[2]: _as_text(value)
            for key, value in values.items()
            if key not in _GOOGLE and value is not None
        }
        groups = _texts(values.get(GROUPS))
        together = sum(len(one.encode()) for one in (subject, *groups, *attributes.values()))
        if together > VALUES_BYTES_MAX:
            longest = max(attributes, key=lambda name: len(attributes[name]), default="")
            raise TooLong(f"attribute.{longest}" if attributes else GROUPS, VALUES_BYTES_MAX)
        return Mapped(subject, groups, attributes)


@dataclass(frozen=True, slots=True)
class Condition:
    """The condition of a provider, compiled."""

    _expression: _Expression

    @classmethod
    def compile(cls, text: str) -> Condition:
        """Raises BadExpression."""
        expression = _Expression("attributeCondition", text, CONDITION_CHARACTERS_MAX)
        if expression.type not in (cel.Type.BOOL, cel.Type.DYN):
            raise BadExpression("attributeCondition", "is neither true nor false")
        return cls(expression)

    def is_met(self, assertion: Mapping[str, Any], mapped: Mapped | None) -> bool:
        """Whether it is true; an error is not."""
        google = {"subject": mapped.subject, "groups": list(mapped.groups)} if mapped else {}
        attribute = dict(mapped.attributes) if mapped else {}
        return self._expression.value(assertion=_held(assertion), google=google, attribute=attribute) is True


def _held(value: Any) -> Any:  # noqa: ANN401 - JSON
    """`value` with nothing that CEL cannot hold: integers past 64 bits become the doubles that JSON's numbers are."""
    if isinstance(value, Mapping):
        return {key: _held(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_held(one) for one in value]
    if isinstance(value, int) and not isinstance(value, bool) and not -_INT64 <= value < _INT64:
        return float(value) if value.bit_length() < 1024 else float("inf")
    return value


def _texts(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list):
        return tuple(one for one in value if isinstance(one, str))
    return ()


def _as_text(value: object) -> str:
    """As a member of a policy would name it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ",".join(_as_text(one) for one in value)
    return str(value)
