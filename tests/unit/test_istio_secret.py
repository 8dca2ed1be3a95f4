"""Istio's `cacerts`: what is whole, which step is legal; OpenSSL is the second opinion."""

from __future__ import annotations

import base64
import json
import shutil
import stat
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from spangate.adapters.istio_files import MANIFEST, ROOT_KEY, cacerts_in, made_like, write_steps
from spangate.authority.istio_secret import (
    ANCHORS_MAX,
    CA_CERT,
    CA_KEY,
    CERT_CHAIN,
    FILES,
    ROOT_CERT,
    BadSecret,
    CaCerts,
    CaKey,
    check_step,
    private_pem,
    read_cacerts,
    rotation_steps,
)
from spangate.errors import YourFault

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)
KEYS: dict[str, CaKey] = {
    name: ec.generate_private_key(ec.SECP256R1()) for name in ("root", "ca", "other-root", "other-ca", "leaf", "third")
}
USAGE = dict.fromkeys(("digital_signature", "content_commitment", "key_encipherment", "data_encipherment"), False)
USAGE |= dict.fromkeys(("key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"), False)


def named(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def certificate(
    name: str,
    issuer: str | None = None,
    *,
    ca: bool = True,
    signs: bool | None = True,
    begins: datetime = NOW - DAY,
    ends: datetime = NOW + 365 * DAY,
) -> x509.Certificate:
    """`name` and `issuer` are names of KEYS too. `signs` None leaves the key usage out."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(named(name))
        .issuer_name(named(issuer or name))
        .public_key(KEYS[name].public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if signs is not None:
        builder = builder.add_extension(x509.KeyUsage(**{**USAGE, "key_cert_sign": signs}), critical=True)
    return builder.sign(KEYS[issuer or name], hashes.SHA256())


def pem(*certificates: x509.Certificate) -> str:
    return "".join(one.public_bytes(serialization.Encoding.PEM).decode() for one in certificates)


ROOT, OTHER_ROOT, THIRD = certificate("root"), certificate("other-root"), certificate("third")
CA, OTHER_CA = certificate("ca", "root"), certificate("other-ca", "other-root")


def files(ca: x509.Certificate = CA, key: str = "ca", *roots: x509.Certificate) -> dict[str, str]:
    roots = roots or (ROOT,)
    return {
        CA_CERT: pem(ca),
        CA_KEY: private_pem(KEYS[key]),
        CERT_CHAIN: pem(ca, roots[0]),
        ROOT_CERT: pem(*roots),
    }


def current() -> CaCerts:
    return read_cacerts(files(), NOW)


def new() -> CaCerts:
    return read_cacerts(files(OTHER_CA, "other-ca", OTHER_ROOT), NOW)


# What is whole -------------------------------------------------------------------------------------------------------


def test_a_whole_secret_is_read_and_shows_no_key() -> None:
    found = current()
    assert found.ca == CA
    assert len(found.under) == 1
    assert "PRIVATE" not in repr(found)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({CA_KEY: ""}, "has no `ca-key.pem`"),
        ({ROOT_CERT: "  \n"}, "has no `root-cert.pem`"),
        ({CA_CERT: "nothing"}, "`ca-cert.pem` cannot be read"),
        ({CA_CERT: pem(CA, ROOT)}, "holds 2 certificates; there may be 1"),
        ({CA_KEY: private_pem(KEYS["leaf"])}, "is not the key of"),
        ({CA_KEY: "nothing"}, "`ca-key.pem` cannot be read"),
        ({ROOT_CERT: pem(ROOT, ROOT)}, "stands twice"),
        ({ROOT_CERT: pem(ROOT, CA)}, "no root"),
        ({ROOT_CERT: pem(ROOT, OTHER_ROOT, THIRD, certificate("leaf"))}, f"there may be {ANCHORS_MAX}"),
        ({ROOT_CERT: pem(OTHER_ROOT)}, "leads to no root"),
        ({CERT_CHAIN: pem(ROOT, CA)}, "does not begin with"),
        ({CA_CERT: pem(certificate("ca", "root", ca=False))}, "does not begin with"),
        ({ROOT_CERT: pem(certificate("root", ends=NOW - timedelta(hours=1)))}, "not now"),
        ({ROOT_CERT: pem(certificate("root", begins=NOW + timedelta(hours=1)))}, "not now"),
        ({ROOT_CERT: "x" * 300_000}, "longer than"),
        ({ROOT_CERT: pem(ROOT) + "\u00e4"}, "cannot be read"),
    ],
)
def test_a_secret_that_is_not_whole_is_refused(change: dict[str, str], message: str) -> None:
    with pytest.raises(BadSecret, match=message):
        read_cacerts({**files(), **change}, NOW)


@pytest.mark.parametrize(
    ("ca", "message"),
    [
        (certificate("ca", "root", ca=False), "says CA:FALSE"),
        (certificate("ca", "root", signs=False), "may not sign"),
        (certificate("ca", "root", ends=NOW), "not now"),
        (certificate("ca", "other-root"), "leads to no root"),
    ],
)
def test_an_authority_that_could_not_sign_is_refused(ca: x509.Certificate, message: str) -> None:
    with pytest.raises(BadSecret, match=message):
        read_cacerts(files(ca), NOW)


def test_a_key_usage_that_is_missing_allows_everything() -> None:
    assert read_cacerts(files(certificate("ca", "root", signs=None)), NOW).under


def test_a_chain_may_have_further_authorities_between() -> None:
    middle, low = certificate("third", "root"), certificate("ca", "third")
    found = read_cacerts({**files(low), CERT_CHAIN: pem(low, middle, ROOT)}, NOW)
    assert found.under
    with pytest.raises(BadSecret, match="leads to no root"):
        read_cacerts({**files(low), CERT_CHAIN: pem(low)}, NOW)


# Which step is legal -------------------------------------------------------------------------------------------------


def test_the_steps_of_a_rotation_are_legal_one_after_another_and_in_no_other_order() -> None:
    before, after = current(), new()
    trust, sign, retire = (step.secret for step in rotation_steps(before, after, NOW))
    order = [before, trust, sign, retire]
    for index, one in enumerate(order):
        for other_index, other in enumerate(order):
            if abs(index - other_index) <= 1:
                check_step(one, other)  # backwards too: whoever turns back is trusted
            else:
                with pytest.raises(BadSecret):
                    check_step(one, other)


def test_each_illegal_step_says_what_comes_first() -> None:
    before, after = current(), new()
    trust, sign, _ = (step.secret for step in rotation_steps(before, after, NOW))
    with pytest.raises(BadSecret, match="added and another one is removed") as caught:
        check_step(before, after)
    assert "first trust both" in str(caught.value.help)
    with pytest.raises(BadSecret, match="does not trust the root of the new"):
        check_step(before, sign)
    with pytest.raises(BadSecret, match="would not be trusted any more"):
        check_step(trust, after)


def test_istiod_compares_bytes_so_the_order_of_roots_counts() -> None:
    before = read_cacerts({**files(), ROOT_CERT: pem(ROOT, THIRD)}, NOW)
    swapped = read_cacerts({**files(), ROOT_CERT: pem(THIRD, ROOT)}, NOW)
    with pytest.raises(BadSecret, match="compares bytes"):
        check_step(before, swapped)


def test_an_old_file_without_a_last_newline_stays_contained() -> None:
    before = read_cacerts({**files(), ROOT_CERT: pem(ROOT).rstrip("\n")}, NOW)
    rotation_steps(before, new(), NOW)


@pytest.mark.parametrize(
    ("roots", "wanted", "message"),
    [
        ((ROOT,), files(), "nothing to rotate"),
        ((ROOT,), files(OTHER_CA, "other-ca", OTHER_ROOT, ROOT), "keeps a root"),
        ((ROOT, THIRD, certificate("leaf")), files(OTHER_CA, "other-ca", OTHER_ROOT), "more than 3 roots"),
    ],
)
def test_a_rotation_that_would_not_be_one_is_refused(
    roots: tuple[x509.Certificate, ...], wanted: dict[str, str], message: str
) -> None:
    with pytest.raises(BadSecret, match=message):
        rotation_steps(read_cacerts(files(CA, "ca", *roots), NOW), read_cacerts(wanted, NOW), NOW)


# Files, and what OpenSSL says ----------------------------------------------------------------------------------------


def verifies(folder: Path, leaf_of: Path) -> bool:
    """Whether a proxy that trusts `folder`'s roots takes a certificate that `leaf_of`'s authority signs, by OpenSSL."""
    work = folder.parent / "openssl"
    work.mkdir(exist_ok=True)
    run = ["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    run += ["-keyout", str(work / "key"), "-out", str(work / "csr"), "-subj", "/CN=leaf"]
    subprocess.run(run, check=True, capture_output=True)
    sign = ["openssl", "x509", "-req", "-in", str(work / "csr"), "-CA", str(leaf_of / CA_CERT)]
    sign += ["-CAkey", str(leaf_of / CA_KEY), "-CAcreateserial", "-CAserial", str(work / "serial"), "-days", "1"]
    subprocess.run([*sign, "-out", str(work / "leaf")], check=True, capture_output=True)
    verify = ["openssl", "verify", "-CAfile", str(folder / ROOT_CERT), "-untrusted", str(leaf_of / CERT_CHAIN)]
    return subprocess.run([*verify, str(work / "leaf")], check=False, capture_output=True).returncode == 0


@pytest.mark.parametrize("kind", ["ec", "rsa"])
def test_a_new_root_of_ones_own_kind_and_openssl_agrees_with_every_step(tmp_path: Path, kind: str) -> None:
    assert shutil.which("openssl"), "these tests need OpenSSL's command"
    before = tmp_path / "now"
    before.mkdir()
    texts = files()
    if kind == "rsa":
        KEYS["rsa"] = rsa.generate_private_key(65537, 2048)
        texts = files(certificate("rsa", "root"), "rsa")
    for name, text in texts.items():
        (before / name).write_text(text)
    found = cacerts_in(before, NOW)
    made, root_key = made_like(found, NOW)
    assert isinstance(made.key, type(found.key))
    steps = rotation_steps(found, made, NOW)
    out = tmp_path / "steps"
    write_steps(out, steps, root_key)
    folders = [before, *(out / step.name for step in steps)]
    for i, trusting in enumerate(folders):
        for j, signing in enumerate(folders):
            # Neighbours understand one another; the first and the last do not.
            assert verifies(trusting, signing) or abs(i - j) > 1, (i, j)
    assert not verifies(folders[0], folders[3])
    assert not verifies(folders[3], folders[0])


def test_what_is_written_is_for_the_owner_alone_and_what_kubectl_takes(tmp_path: Path) -> None:
    steps = rotation_steps(current(), new(), NOW)
    write_steps(tmp_path / "steps", steps, KEYS["other-root"])
    paths = list((tmp_path / "steps").rglob("*"))
    assert {stat.S_IMODE(path.stat().st_mode) for path in paths if path.is_file()} == {0o600}
    assert {stat.S_IMODE(path.stat().st_mode) for path in paths if path.is_dir()} == {0o700}
    assert (tmp_path / "steps" / "new-root" / ROOT_KEY).exists()
    for step in steps:
        lines = (tmp_path / "steps" / step.name / MANIFEST).read_text().splitlines()
        assert lines[:6] == ["apiVersion: v1", "kind: Secret", "metadata:", "  name: cacerts", *lines[4:6]]
        data = dict(line.strip().split(": ", 1) for line in lines if line.startswith("  ") and ".pem: " in line)
        assert {name: base64.b64decode(text).decode() for name, text in data.items()} == dict(step.secret.files)
        for name in FILES:
            assert (tmp_path / "steps" / step.name / name).read_text() == step.secret.files[name]
    with pytest.raises(YourFault, match="exists already"):
        write_steps(tmp_path / "steps", steps, None)
    assert json.dumps([step.name for step in steps]) == '["1-trust-both", "2-new-root-signs", "3-old-root-retired"]'


def test_a_folder_without_the_files_says_which_one(tmp_path: Path) -> None:
    with pytest.raises(YourFault, match=r"there is no `ca-cert\.pem`"):
        cacerts_in(tmp_path, NOW)
