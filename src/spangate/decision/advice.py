"""What to write into the intent file so that a denied request would be allowed, and where.

Rules: advice names the narrowest grant that is missing, never a wider one; it is made together with the denial, while
the policy and its positions are at hand, and recorded with it. It is for whoever keeps the intent file, not for the
caller: it tells of other grants.
Not here: the rule itself (rule.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from spangate.model.access import DATABASE_OPERATIONS, Access
from spangate.model.policy import Grant, Policy, moment_text

# One is the rule; a statement that lacks more is probably not meant to be allowed at all.
PIECES_MAX = 3
COLUMNS_MAX = 8


def advice_for(policy: Policy, name: str, alias: str, missing: Sequence[Access], now: datetime) -> str:
    """Where to add what: "add `Email` to `Customers(...)` under access.reports.shop.read (spangate.yaml:21:14)"."""
    pieces = [_piece(policy, name, alias, access, now) for access in missing[:PIECES_MAX]]
    more = len(missing) - len(pieces)
    if more:
        pieces.append(f"add {more} more")
    return " and ".join(pieces)


def advice_for_newcomer(policy: Policy, name: str, alias: str) -> str:
    """For an identity that holds no grant at all in a database, or none any more."""
    ended = [grant for grant in policy.grants_of.get((name, alias), ()) if not grant.deny]
    if ended:
        last = max(ended, key=lambda grant: (grant.until is None, grant.until))
        return _extend(last)
    return f"add grants under access.{name}.{alias}"


def _piece(policy: Policy, name: str, alias: str, access: Access, now: datetime) -> str:
    where = f"access.{name}.{alias}.{access.operation}"
    on_table = policy.grants_on.get((name, alias, access.operation, access.table), ())
    ended = _ended(access, on_table, now)
    if ended is not None:
        return _extend(ended)
    if access.operation in DATABASE_OPERATIONS:
        return f"add `{access.operation}: true` under access.{name}.{alias}"
    if not access.table:
        return f"add a table under {where}"
    plain = next((grant for grant in on_table if grant.stands(now) and _is_plain(grant)), None)
    if plain is not None and access.columns and not access.every:
        return f"add `{_columns(access, '`, `')}` to `{access.table}(...)` under {where} ({plain.position})"
    wanted = f"{access.table}({_columns(access, ', ')})" if access.columns and not access.every else access.table
    star = "name the columns instead of `*`, or " if access.every else ""
    neighbours = policy.grants_of.get((name, alias), ())
    beside = next(
        (grant for grant in neighbours if grant.operation is access.operation and not grant.deny and not grant.role),
        None,
    )
    if beside is not None:
        return f"{star}add `{wanted}` under {where} ({beside.position})"
    return f"{star}add `{access.operation}: [{wanted}]` under access.{name}.{alias}"


def _ended(access: Access, grants: Sequence[Grant], now: datetime) -> Grant | None:
    """The grant that covered all of `access` until it ended, the one that ended last."""
    found = [
        grant
        for grant in grants
        if grant.until is not None
        and not grant.stands(now)
        and grant.columns.issuperset(access.columns)
        and (grant.every or not access.every)
    ]
    return max(found, key=lambda grant: grant.until or now) if found else None


def _extend(grant: Grant) -> str:
    by_role = f" by the role `{grant.role}`" if grant.role is not None else ""
    ended = f" that ended at {moment_text(grant.until)}" if grant.until is not None else ""
    return f"extend the grant{by_role}{ended} ({grant.position})"


def _is_plain(grant: Grant) -> bool:
    """A table and its columns, so that a column can be added without giving it to others or on other tables."""
    table, parenthesis, columns = grant.text.partition("(")
    named = parenthesis and "*" not in table + columns
    return bool(named) and grant.role is None and grant.until is None


def _columns(access: Access, separator: str) -> str:
    names = separator.join(access.columns[:COLUMNS_MAX])
    more = len(access.columns) - COLUMNS_MAX
    return f"{names} and {more} more" if more > 0 else names
