"""Decisions as plain values and back: what the checkpoint writes down and `spangate explain` reads.

Rules: `decision_from_json(decision_to_json(d))` is `d`, positions and texts of grants included. A record that is not
exactly of this form raises; a damaged log must not turn into an explanation.
Not here: where records are kept (audit/, adapters/).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TypeVar

from spangate.model.access import Access, Operation
from spangate.model.decision import Decision, Reason
from spangate.model.policy import Grant, Position

Json = dict[str, object]
_Value = TypeVar("_Value")


class BadDecisionRecord(ValueError):
    """The values are not a recorded decision; the message says where."""


def decision_to_json(decision: Decision) -> Json:
    """A dict of str, int, bool, None, lists and dicts, ready for `json.dumps`."""
    found: Json = {
        "id": decision.id,
        "allowed": decision.allowed,
        "reason": decision.reason.value,
        "identity": decision.identity,
        "name": decision.name,
        "rpc": decision.rpc,
        "database": decision.database,
        "accesses": [_access_to_json(access) for access in decision.accesses],
        "missing": [_access_to_json(access) for access in decision.missing],
        "grants": [grant_to_json(grant) for grant in decision.grants],
        "policy": decision.policy,
        "detail": decision.detail,
    }
    return {**found, "presented": decision.presented} if decision.presented else found


def decision_from_json(values: object) -> Decision:
    """The decision that `decision_to_json` gave, or BadDecisionRecord."""
    has_presented = isinstance(values, Mapping) and "presented" in values
    record = _Record(values, "decision", 13 if has_presented else 12)
    return Decision(
        id=record.text("id"),
        allowed=record.of_type("allowed", bool),
        reason=record.word("reason", Reason),
        identity=record.text("identity"),
        name=record.text_or_none("name"),
        rpc=record.text("rpc"),
        database=record.text_or_none("database"),
        accesses=record.list_of("accesses", _access_from_json),
        missing=record.list_of("missing", _access_from_json),
        grants=record.list_of("grants", _grant_from_json),
        policy=record.text("policy"),
        detail=record.text("detail"),
        presented=record.text("presented") if has_presented else "",
    )


def _access_to_json(access: Access) -> Json:
    return {
        "operation": access.operation.value,
        "table": access.table,
        "columns": list(access.columns),
        "every": access.every,
    }


def _access_from_json(values: object) -> Access:
    record = _Record(values, "access", 4)
    return Access(
        record.word("operation", Operation),
        record.text("table"),
        record.list_of("columns", _text),
        record.of_type("every", bool),
    )


def grant_to_json(grant: Grant) -> Json:
    """A grant with everything that stands in it, ready for `json.dumps`."""
    position = grant.position
    return {
        "identity": grant.identity,
        "database": grant.database,
        "operation": grant.operation.value,
        "table": grant.table,
        "columns": sorted(grant.columns),
        "every": grant.every,
        "deny": grant.deny,
        "until": grant.until.isoformat() if grant.until is not None else None,
        "role": grant.role,
        "text": grant.text,
        "position": {"file": position.file, "line": position.line, "column": position.column},
    }


def _grant_from_json(values: object) -> Grant:
    record = _Record(values, "grant", 11)
    return Grant(
        identity=record.text("identity"),
        database=record.text("database"),
        operation=record.word("operation", Operation),
        table=record.text("table"),
        columns=frozenset(record.list_of("columns", _text)),
        every=record.of_type("every", bool),
        deny=record.of_type("deny", bool),
        until=record.moment_or_none("until"),
        role=record.text_or_none("role"),
        text=record.text("text"),
        position=record.sub("position", _position_from_json),
    )


def _position_from_json(values: object) -> Position:
    record = _Record(values, "position", 3)
    return Position(record.text("file"), record.number("line"), record.number("column"))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise BadDecisionRecord("a list of texts holds something else")
    return value


class _Record:
    """A dict whose values are read one by one, each with the type it must have."""

    def __init__(self, values: object, what: str, size: int) -> None:
        if not isinstance(values, Mapping) or len(values) != size:
            raise BadDecisionRecord(f"a {what} must have exactly {size} fields")
        self._values = values
        self._what = what

    def of_type(self, key: str, type_: type[_Value]) -> _Value:
        value = self._values.get(key)
        # bool is an int to Python, not to a record.
        if not isinstance(value, type_) or (isinstance(value, bool) and type_ is not bool):
            raise BadDecisionRecord(f"`{key}` of a {self._what} is missing or of the wrong type")
        return value

    def text(self, key: str) -> str:
        return self.of_type(key, str)

    def text_or_none(self, key: str) -> str | None:
        return None if key in self._values and self._values[key] is None else self.text(key)

    def moment_or_none(self, key: str) -> datetime | None:
        text = self.text_or_none(key)
        if text is None:
            return None
        try:
            moment = datetime.fromisoformat(text)
        except ValueError as error:
            raise BadDecisionRecord(f"`{key}` of a {self._what} is not a moment") from error
        if moment.tzinfo is None:
            raise BadDecisionRecord(f"`{key}` of a {self._what} has no zone")
        return moment.astimezone(UTC)

    def number(self, key: str) -> int:
        return self.of_type(key, int)

    def word(self, key: str, words: Callable[[str], _Value]) -> _Value:
        try:
            return words(self.text(key))
        except BadDecisionRecord:
            raise
        except ValueError as error:
            raise BadDecisionRecord(f"`{key}` of a {self._what} is not a known word") from error

    def list_of(self, key: str, read: Callable[[object], _Value]) -> tuple[_Value, ...]:
        return tuple(read(item) for item in self.of_type(key, list))

    def sub(self, key: str, read: Callable[[object], _Value]) -> _Value:
        return read(self._values.get(key))
