"""What to write into the intent file so that a denied request would be allowed, and where.

Rules: advice names the narrowest grant that is missing, never a wider one; it is made together with the denial, while
the policy and its positions are at hand, and recorded with it. It is for whoever keeps the intent file, not for the
caller: it tells of other grants.
Not here: the rule itself (rule.py).
"""

from __future__ import annotations

from collections.abc import Sequence

from spangate.model.access import Access
from spangate.model.policy import Grant, Policy

# One is the rule; a statement that lacks more is probably not meant to be allowed at all.
PIECES_MAX = 3
COLUMNS_MAX = 8


def advice_for(policy: Policy, name: str, alias: str, missing: Sequence[Access]) -> str:
    """Where to add what: "add `Email` to `Customers(...)` under access.reports.shop.read (spangate.yaml:21:14)"."""
    pieces = [_piece(policy, name, alias, access) for access in missing[:PIECES_MAX]]
    more = len(missing) - len(pieces)
    if more:
        pieces.append(f"add {more} more")
    return " and ".join(pieces)


def advice_for_newcomer(name: str, alias: str) -> str:
    """For an identity that holds no grant at all in a database."""
    return f"add grants under access.{name}.{alias}"


def _piece(policy: Policy, name: str, alias: str, access: Access) -> str:
    where = f"access.{name}.{alias}.{access.operation}"
    on_table = policy.grants_on.get((name, alias, access.operation, access.table), ())
    if on_table:
        # A grant on the table exists, so it is columns that are missing.
        entry = on_table[0]
        columns = _columns(access, "`, `")
        return f"add `{columns}` to `{_outline(entry)}` under {where} ({entry.position})"
    wanted = f"{access.table}({_columns(access, ', ')})" if access.columns else access.table
    neighbours = policy.grants_of.get((name, alias), ())
    same_operation = next((grant for grant in neighbours if grant.operation is access.operation), None)
    if same_operation is not None:
        return f"add `{wanted}` under {where} ({same_operation.position})"
    return f"add `{access.operation}: [{wanted}]` under access.{name}.{alias}"


def _columns(access: Access, separator: str) -> str:
    names = separator.join(access.columns[:COLUMNS_MAX])
    more = len(access.columns) - COLUMNS_MAX
    return f"{names} and {more} more" if more > 0 else names


def _outline(grant: Grant) -> str:
    table, parenthesis, _ = grant.text.partition("(")
    return f"{table}(...)" if parenthesis else table
