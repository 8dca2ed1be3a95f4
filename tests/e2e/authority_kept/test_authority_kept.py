"""Promise: an authority whose keys are kept is the same after a restart, and nobody notices that there was one."""

from __future__ import annotations

from pathlib import Path

import pytest

from e2e.harness import Client, Up, credentials, shop_folder, spangate
from fakes import softhsm
from spangate.model.identity import SpiffeId

pytestmark = pytest.mark.e2e

PASSPHRASE = "correct horse battery staple"
DATABASE = "projects/spangate-local/instances/main/databases/shop"
CHECKOUT = SpiffeId.parse("spiffe://shop.example/ns/shop/sa/checkout")


def prepared(folder: Path) -> Path:
    folder = shop_folder(folder)
    file = folder / "passphrase"
    file.write_text(PASSPHRASE + "\n")
    file.chmod(0o600)
    return folder


def test_a_restart_of_everything_keeps_root_and_certificates(emulator: None, tmp_path: Path) -> None:
    folder = prepared(tmp_path / "shop")
    options = ("--keys", "keys", "--passphrase-file", "passphrase")
    first = Up(folder, *options).wait_until_up()
    port = first.running["gateway"].rpartition(":")[2]
    svid = first.svid(CHECKOUT)
    assert first.end() == 0, first.printed
    assert "keys in keys" in first.printed
    second = Up(folder, *options, "--port", port).wait_until_up()
    try:
        again = second.svid(CHECKOUT)
        assert again.secrets.bundle_pem == svid.secrets.bundle_pem
        # A certificate of before the restart is as good as one of after it.
        with Client(second.running["gateway"], credentials(svid, svid)) as client:
            assert client.session(DATABASE).startswith(DATABASE)
    finally:
        assert second.end() == 0, second.printed
    # Nothing that was written holds a key, or what opens one.
    for path in folder.rglob("*"):
        if path.is_file() and path.name != "passphrase":
            content = path.read_bytes()
            assert b"PRIVATE KEY" not in content, path
            assert PASSPHRASE.encode() not in content, path


@pytest.mark.skipif(bool(softhsm.MISSING), reason=softhsm.MISSING)
def test_keys_in_a_token_outlive_a_restart_and_are_nowhere_else(emulator: None, tmp_path: Path) -> None:
    folder = prepared(tmp_path / "shop")
    token = softhsm.SoftToken(tmp_path / "hsm")
    (folder / "passphrase").write_bytes(softhsm.PIN)
    options = ("--keys", str(token.place), "--passphrase-file", "passphrase")
    first = Up(folder, *options).wait_until_up()
    svid, keys = first.svid(CHECKOUT), spangate("jwks", cwd=folder)
    assert first.end() == 0, first.printed
    second = Up(folder, *options).wait_until_up()
    try:
        assert second.svid(CHECKOUT).secrets.bundle_pem == svid.secrets.bundle_pem
        assert (keys.returncode, spangate("jwks", cwd=folder).stdout) == (0, keys.stdout)
        # A kill is no restart of `up`: its next process is handed the PIN, and logs in to the token anew.
        second.kill_part("authority_process")
        assert second.svid(CHECKOUT).secrets.bundle_pem == svid.secrets.bundle_pem
        with Client(second.running["gateway"], credentials(svid, svid)) as client:
            assert client.session(DATABASE).startswith(DATABASE)
    finally:
        assert second.end() == 0, second.printed
    assert softhsm.PIN.decode() not in first.printed + second.printed
    for path in folder.rglob("*"):
        if path.is_file():
            assert b"PRIVATE KEY" not in path.read_bytes(), path


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--keys", "keys"), "need a passphrase"),
        (("--keys", "keys", "--passphrase-file", "nowhere"), "cannot read the passphrase"),
        (("--keys", "pkcs11:token=a"), "does not say by `module-path`"),
        (("--keys", "pkcs11:token=a?module-path=/m&pin-value=1"), "does not stand in its URI"),
    ],
)
def test_keys_without_a_passphrase_are_an_error_that_helps(
    emulator: None, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    done = spangate("up", *options, cwd=shop_folder(tmp_path / "shop"))
    assert done.returncode == 2
    assert message in done.stderr


def test_another_passphrase_starts_nothing(emulator: None, tmp_path: Path) -> None:
    folder = prepared(tmp_path / "shop")
    options = ("--keys", "keys", "--passphrase-file", "passphrase")
    assert Up(folder, *options).wait_until_up().end() == 0
    (folder / "passphrase").write_text("not the one that it was\n")
    done = spangate("up", *options, cwd=folder)
    assert done.returncode == 2
    assert "cannot be opened" in done.stderr
