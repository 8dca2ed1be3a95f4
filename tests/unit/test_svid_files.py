"""A mesh's SVID in files: the three together or not at all, and the key nobody else's."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fakes.clock import FakeClock
from fakes.mesh_ca import Leaf, MeshCa, key_pem, pem, replace_file, write_svid
from spangate.adapters.svid_files import SvidFiles
from spangate.errors import YourFault

ROOT = MeshCa("cluster.local")
ISTIOD = MeshCa("istiod", ROOT)
NAME = "spiffe://cluster.local/ns/shop/sa/courier"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    write_svid(tmp_path / "certs", ISTIOD.leaf(NAME), ROOT)
    return tmp_path / "certs"


def opened(directory: Path, problems: list[str] | None = None) -> SvidFiles:
    told = [] if problems is None else problems
    return SvidFiles(directory, FakeClock(datetime.now(UTC)), problem=told.append)


def refusal(directory: Path) -> str:
    with pytest.raises(YourFault) as caught:
        opened(directory)
    return caught.value.message


def test_it_is_what_the_files_say(directory: Path) -> None:
    found = opened(directory)
    assert str(found.svid.identity) == NAME
    secrets = found.current()
    assert secrets.chain_pem == (directory / "cert-chain.pem").read_text()
    assert secrets.key_pem == (directory / "key.pem").read_text()
    assert secrets.bundle_pem == pem(ROOT.certificate)
    assert secrets.key_pem not in repr(secrets)


@pytest.mark.parametrize("name", ["key.pem", "cert-chain.pem", "root-cert.pem"])
@pytest.mark.parametrize("content", [None, b"", b"hello", b"\xff", pem(ISTIOD.certificate).encode()[:-60]])
def test_without_one_of_the_files_there_is_none(directory: Path, name: str, content: bytes | None) -> None:
    if content is None:
        (directory / name).unlink()
    else:
        (directory / name).write_bytes(content)
    assert name in refusal(directory)


@pytest.mark.parametrize(("mode", "is_taken"), [(0o600, True), (0o400, True), (0o640, True), (0o440, True)])
def test_a_key_that_its_owner_and_group_read_is_taken(directory: Path, mode: int, is_taken: bool) -> None:
    (directory / "key.pem").chmod(mode)
    assert opened(directory)
    assert is_taken


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o602, 0o660, 0o777])
def test_a_key_that_others_may_read_is_refused(directory: Path, mode: int) -> None:
    (directory / "key.pem").chmod(mode)
    assert f"may be read by others (mode {mode:04o})" in refusal(directory)


BAD: dict[str, tuple[Callable[[], Leaf], str]] = {
    "two names": (lambda: ISTIOD.leaf(NAME, NAME + "2"), "exactly one URI name"),
    "no name": (lambda: ISTIOD.leaf(dns_names=["x"]), "exactly one URI name"),
    "no SPIFFE ID": (lambda: ISTIOD.leaf("https://cluster.local/"), "has no SPIFFE ID"),
    "an authority": (lambda: ISTIOD.leaf(NAME, is_authority=True), "is an authority's"),
    "ended": (lambda: ISTIOD.leaf(NAME, ends=timedelta(seconds=-1)), "has ended"),
    "another root": (lambda: MeshCa("istiod").leaf(NAME), "does not lead to a root"),
    "another key": (
        lambda: Leaf(ISTIOD.leaf(NAME).certificate, ISTIOD.chain, MeshCa("x").key),
        "do not belong together",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_svid_is_refused_with_its_reason(directory: Path, case: str) -> None:
    make, said = BAD[case]
    write_svid(directory, make(), ROOT)
    assert said in refusal(directory)


def test_an_encrypted_key_is_refused(directory: Path) -> None:
    text = key_pem(ROOT.key).replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY")
    replace_file(directory / "key.pem", text)
    assert "no private key in PEM that is not encrypted" in refusal(directory)


def test_a_renewed_one_is_taken_once_all_of_it_is_there(directory: Path) -> None:
    problems: list[str] = []
    found = opened(directory, problems)
    before, renewed = found.current(), ISTIOD.leaf(NAME)
    replace_file(directory / "key.pem", renewed.key_pem)
    found.look()
    # The key is there and its certificate is not: nobody's meaning, and it does not stay so.
    replace_file(directory / "cert-chain.pem", renewed.chain_pem)
    found.look()
    assert found.current() == before
    found.look()
    assert found.current().chain_pem == renewed.chain_pem
    assert problems == []


def test_one_that_is_no_good_leaves_the_one_before_and_is_said_once(directory: Path) -> None:
    problems: list[str] = []
    found = opened(directory, problems)
    before = found.current()
    replace_file(directory / "key.pem", key_pem(ROOT.key))
    for _ in range(4):
        found.look()
    assert found.current() == before
    (problem,) = problems
    assert "do not belong together" in problem
    assert "the certificate before stays in use" in problem


def test_another_identity_is_not_taken(directory: Path) -> None:
    problems: list[str] = []
    found = opened(directory, problems)
    write_svid(directory, ISTIOD.leaf(NAME + "2"), ROOT)
    found.look()
    found.look()
    assert str(found.svid.identity) == NAME
    assert "holds another identity now" in problems[0]


def test_no_message_shows_the_key(directory: Path) -> None:
    key = (directory / "key.pem").read_text().splitlines()[1]
    for content in (key, f"-----BEGIN PRIVATE KEY-----\n{key}\n-----END PRIVATE KEY-----\n"):
        replace_file(directory / "key.pem", content)
        with pytest.raises(YourFault) as caught:
            opened(directory)
        assert key not in f"{caught.value.message} {caught.value.__cause__!r} {caught.value.__suppress_context__}"
