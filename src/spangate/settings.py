"""Limits and intervals that more than one part relies on. Each has its unit in its name and its reason beside it.

The Lua filter states the same numbers; tests/conformance/test_limits.py holds the two together.
"""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits on requests. The defaults are Spanner's own (https://cloud.google.com/spanner/quotas)."""

    # "Request size other than for commits: 10 MiB".
    request_bytes_max: int = 10 * MIB
    # "Commit size (including indexes and change streams): 100 MiB".
    commit_bytes_max: int = 100 * MIB
    # "Length of a query statement: 1 million characters".
    statement_characters_max: int = 1_000_000
    # "Mutations per commit: 80,000" counts columns of rows; each can cost a mutation, a column name and a row of
    # values. Column names, parameters and statements of other requests are far fewer.
    entries_max: int = 250_000
    # Different statements of a batch, or different mutations by kind, table and columns. Each is a part of the question
    # to the checkpoint; a database has at most 5,000 tables.
    distinct_max: int = 10_000


@dataclass(frozen=True, slots=True)
class Intervals:
    """How often and how long, in milliseconds."""

    # Half of the second that the design promises for revocation; the other half is the file watch and slack.
    epoch_check_ms: int = 500
    # How long cached decisions outlive a checkpoint that does not answer: a restart takes about one second.
    grace_ms: int = 5_000
    # First sight of a statement is 5 ms as a rule; a checkpoint that takes this long is treated as away.
    checkpoint_timeout_ms: int = 5_000
    # The epoch is a lookup: a checkpoint that takes this long hangs, and the grace must not be spent on waiting for it.
    epoch_timeout_ms: int = 1_000
    # A token that a worker knows is asked for again this often: what has changed at the broker takes effect this late.
    token_check_ms: int = 30_000
    # While the broker gives none, one request in this time asks again.
    token_retry_ms: int = 1_000
    # A request travels, and may have waited for its decision: a token is not used for longer than until this before its
    # end. The broker hands out none with less than three times this to go.
    token_margin_ms: int = 10_000
    # The broker itself waits ten seconds for Google (adapters/token_broker.py).
    broker_timeout_ms: int = 12_000
    # Nobody needs to wait longer where there is a token that is still good.
    broker_renewal_timeout_ms: int = 1_000
    # The file watch looks this often; an intent change is in force after two looks that see the same.
    watch_ms: int = 100
    # `schema: live`: the database is asked for its schema this often; a change made elsewhere is seen this late.
    live_schema_ms: int = 5_000
    # And this often while a schema change that was let through may be under way.
    live_schema_soon_ms: int = 200


LIMITS = Limits()
INTERVALS = Intervals()
