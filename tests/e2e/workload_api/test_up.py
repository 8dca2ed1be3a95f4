"""Promise: `up` gives processes that it did not start the identity that the intent says, and nothing to others."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from e2e.harness import Up, eventually, shop_folder
from fakes.workload import raw, refusal, stream
from spangate.authority.workload_messages import X509SVIDResponse

pytestmark = pytest.mark.e2e

CHECKOUT, REPORTS = (f"spiffe://shop.example/ns/{name}" for name in ("shop/sa/checkout", "analytics/sa/reports"))
OTHER_USER = 4321


def say(folder: Path, **selectors: str) -> None:
    """Writes into the intent which processes identities are."""
    intent = folder / "spangate.yaml"
    text = re.sub(r", unix: \{.*?\}", "", intent.read_text())
    for name, unix in selectors.items():
        text, changes = re.subn(
            rf"(?m)^  {name}:( *)\{{workload: ([^}}]*)\}}", rf"  {name}:\1{{workload: \2, unix: {unix}}}", text
        )
        assert changes == 1
    intent.write_text(text)


def answer(channel: grpc.Channel) -> tuple[str, bytes] | str:
    """Identity and bundle that a stream begins with, or the status that it ends with."""
    try:
        (svid,) = X509SVIDResponse.FromString(next(stream(channel, "FetchX509SVID"))).svids
    except grpc.RpcError as error:
        return error.code().name  # type: ignore[attr-defined]
    return svid.spiffe_id, svid.bundle


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return shop_folder(tmp_path / "shop")


def test_a_process_has_the_identity_that_the_intent_says_of_it_and_keeps_no_other(
    start_up: Callable[..., Up], folder: Path
) -> None:
    me = os.getuid()
    say(folder, checkout=f"{{user: {me}}}")
    up = start_up(folder).wait_until_up()
    with raw(Path(up.running["workload_socket"])) as channel:
        first = answer(channel)
        assert first[0] == CHECKOUT

        # The authority dies: streams break, and clients that come again find the same authority.
        waiting = stream(channel, "FetchX509SVID")
        next(waiting)
        os.kill(up.child("authority_process"), signal.SIGKILL)
        assert refusal(waiting)[0] == "UNAVAILABLE"
        eventually(lambda: answer(channel) == first, "the Workload API is back", 30)

        # Another intent.
        waiting = stream(channel, "FetchX509SVID")
        next(waiting)
        say(folder, reports=f"{{user: {me}}}")
        assert refusal(waiting)[0] == "UNAVAILABLE"
        assert answer(channel)[0] == REPORTS
        say(folder)
        eventually(lambda: answer(channel) == "PERMISSION_DENIED", "nobody is anybody", 5)


@pytest.mark.skipif(os.getuid() != 0, reason="only root may become another user")
def test_another_user_is_served_at_a_path_that_the_operator_names(start_up: Callable[..., Up], folder: Path) -> None:
    place = Path("/tmp") / f"spangate-test-{os.getpid()}"
    place.mkdir(mode=0o755)
    try:
        path = place / "workload.sock"
        say(folder, checkout=f"{{user: {OTHER_USER}}}", reports=f"{{user: {os.getuid()}}}")
        up = start_up(folder, "--workload-socket", str(path)).wait_until_up()
        assert up.running["workload_socket"] == str(path)
        assert path.stat().st_mode & 0o777 == 0o666
        program = (
            f"import os, sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r})\n"
            "from fakes.workload import raw, stream\nfrom pathlib import Path\n"
            "from spangate.authority.workload_messages import X509SVIDResponse\n"
            f"os.setgid({OTHER_USER}); os.setuid({OTHER_USER})\n"
            f"with raw(Path({str(path)!r})) as channel:\n"
            "    print(X509SVIDResponse.FromString(next(stream(channel, 'FetchX509SVID'))).svids[0].spiffe_id)\n"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
        assert done.stdout.strip() == CHECKOUT, done.stderr
        with raw(path) as channel:
            assert answer(channel)[0] == REPORTS
        assert up.end() == 0
        assert not path.exists()
    finally:
        for file in place.iterdir():
            file.unlink()
        place.rmdir()
