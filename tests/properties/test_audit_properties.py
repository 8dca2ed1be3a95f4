"""Whatever stands in the gateway's log, each line becomes one record; and it does so across any crash and restart."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from spangate.adapters import audit_files
from spangate.adapters.audit_files import AuditPaths, Collector
from spangate.adapters.audit_reader import last_records
from spangate.audit.facts import DecisionFacts
from spangate.audit.join import join, join_raw
from spangate.audit.record import Outcome

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
FIELDS = (
    "time",
    "identity",
    "path",
    "allow",
    "deny",
    "detail",
    "grpc_status",
    "commit",
    "total_us",
    "request_id",
    "response_code_details",
)
WORD = st.sampled_from(["d1", "granted d1", "missing-grant d1", "filter-failed", "via_upstream", "-", "1.000000000"])


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(FIELDS), JSON | WORD), st.none() | st.builds(DecisionFacts))
def test_any_line_with_any_decision_gives_one_printable_line(
    values: dict[str, object], found: DecisionFacts | None
) -> None:
    record = join(values, lambda _: found)
    text = record.to_json()
    assert text.isascii()
    assert text.isprintable()
    assert json.loads(text)["decision"] in set(Outcome)
    # Nothing but the filter's mark makes an allow.
    if record.decision is Outcome.ALLOW:
        assert isinstance(values.get("allow"), str)


@given(st.binary(max_size=300))
def test_any_bytes_give_one_printable_line(raw: bytes) -> None:
    text = join_raw(raw, lambda _: None).to_json()
    assert text.isascii()
    assert text.isprintable()


class PowerCut(BaseException):
    """Not an Exception: nothing may catch it."""


# Never JSON, so that the record shows the line; some are blank, which are no lines.
LINE = st.binary(max_size=29).map(lambda raw: b"!" + raw.replace(b"\n", b"")) | st.sampled_from([b"", b" "])
# How many bytes the gateway has written at each step, and what happens there.
EVENT = st.sampled_from(["go on", "restart", "cut while appending", "cut before settling"])
STEP = st.tuples(st.integers(0, 40), EVENT)


@settings(deadline=None, max_examples=200)
@given(st.lists(LINE, max_size=12), st.lists(STEP, max_size=12), st.integers(0, 60), st.integers(20, 60))
def test_each_line_is_recorded_once_and_in_order_whatever_is_cut_where(
    lines: list[bytes], steps: list[tuple[int, str]], half: int, batch: int
) -> None:
    content = b"".join(raw + b"\n" for raw in lines)
    with tempfile.TemporaryDirectory() as name:
        paths = AuditPaths.below(Path(name))
        paths.gateway.touch()
        saved = audit_files.BATCH_BYTES_MAX, audit_files._append
        # Smaller than the whole, larger than any line: the batches fall anywhere.
        audit_files.BATCH_BYTES_MAX = batch + 31
        try:
            _play(paths, content, steps, half)
        finally:
            audit_files.BATCH_BYTES_MAX, audit_files._append = saved
        records = [json.loads(text) for text in paths.audit.read_text().splitlines()] if paths.audit.exists() else []
    assert [record["detail"] for record in records if record["problem"]] == [
        raw.decode("utf-8", "replace") for raw in lines if raw.strip()
    ]


def _play(paths: AuditPaths, content: bytes, steps: list[tuple[int, str]], half: int) -> None:
    append = audit_files._append

    def cut_append(path: Path, data: bytes, *, expected_size: int) -> None:
        append(path, data[: half % (len(data) + 1)], expected_size=expected_size)
        raise PowerCut

    def cut_after(path: Path, data: bytes, *, expected_size: int) -> None:
        append(path, data, expected_size=expected_size)
        raise PowerCut

    problems: list[str] = []
    collector = Collector(paths, problem=problems.append)
    for size, event in [*steps, (len(content), "go on")]:
        with paths.gateway.open("ab") as gateway:
            gateway.write(content[:size])
        content = content[size:]
        audit_files._append = {"cut while appending": cut_append, "cut before settling": cut_after}.get(event, append)
        try:
            while collector.step():
                pass
        except PowerCut:
            collector = Collector(paths, problem=problems.append)
        audit_files._append = append
        if event == "restart":
            collector.close()
            collector = Collector(paths, problem=problems.append)
    while collector.step():
        pass
    collector.close()
    assert problems == []


@given(st.lists(st.text(st.characters(exclude_characters="\n\r", codec="utf-8"), max_size=20), max_size=30))
@settings(deadline=None, max_examples=50)
def test_the_last_records_are_those_that_reading_everything_gives(texts: list[str]) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "audit.jsonl"
        path.write_bytes("".join(f"{text}\n" for text in texts).encode() + b"half")
        kept = [text.strip() for text in texts if text.strip()]
        for count in (0, 1, 3, 100):
            found, offset = last_records(path, count, lambda _: True)
            assert [line.text for line in found] == kept[len(kept) - min(count, len(kept)) :]
            assert offset == path.stat().st_size - len(b"half")
