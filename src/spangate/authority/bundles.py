"""Trust bundles that others give us: a mesh's roots, read strictly.

    PEM    one or more CERTIFICATE blocks, as in Istio's `root-cert.pem`
    JSON   a SPIFFE trust bundle: keys of use `x509-svid`, each with one certificate in `x5c`; other uses are left alone

Rules: only signing certificates; never a private key, not even beside one; at least one root. What is not exactly that
is refused as a whole, so that a bundle is never half of what its author meant.
Source: SPIFFE Trust Domain and Bundle, section 4; RFC 7468; RFC 5280, sections 4.2.1.3 and 4.2.1.9.
Not here: files (adapters/trust_files.py), which names a root may sign (anchors.py).
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

# A mesh in the middle of a rotation has two or three roots; a list of public authorities is no trust bundle.
ROOTS_MAX = 64
# That many certificates with the largest RSA keys.
BUNDLE_BYTES_MAX = 512 * 1024

_BLOCK = re.compile(r"-----BEGIN ([^-]*)-----")
_PRIVATE = re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----")


class BadBundle(ValueError):
    """The content is not a trust bundle; the message says why, and shows nothing of it."""


def read_bundle(content: bytes) -> tuple[x509.Certificate, ...]:
    """The roots in `content`, in their order, each once. Raises BadBundle."""
    if len(content) > BUNDLE_BYTES_MAX:
        raise BadBundle(f"it is longer than {BUNDLE_BYTES_MAX} bytes")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadBundle("it is no text") from error
    if _PRIVATE.search(text):
        raise BadBundle("it holds a private key, which belongs to nobody but its owner")
    found = tuple(dict.fromkeys(_from_json(text) if text.lstrip().startswith("{") else _from_pem(text)))
    if not found:
        raise BadBundle("it holds no certificate")
    if len(found) > ROOTS_MAX:
        raise BadBundle(f"it holds more than {ROOTS_MAX} certificates")
    for number, certificate in enumerate(found, 1):
        _check_root(certificate, number)
    return found


def _from_pem(text: str) -> list[x509.Certificate]:
    other = [label for label in _BLOCK.findall(text) if label != "CERTIFICATE"]
    if other:
        raise BadBundle("it holds something else than certificates")
    try:
        return x509.load_pem_x509_certificates(text.encode()) if _BLOCK.search(text) else []
    except ValueError as error:
        raise BadBundle("a certificate in it cannot be read") from error


def _from_json(text: str) -> Iterator[x509.Certificate]:
    try:
        document: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadBundle("its JSON cannot be read") from error
    keys = document.get("keys")
    if not isinstance(keys, list) or not all(isinstance(key, dict) for key in keys):
        raise BadBundle("a SPIFFE trust bundle has a list of `keys`")
    if any("d" in key or "k" in key for key in keys):
        raise BadBundle("it holds a private key, which belongs to nobody but its owner")
    for key in keys:
        if key.get("use") == "x509-svid":
            yield _of_key(key)


def _of_key(key: Mapping[str, Any]) -> x509.Certificate:
    chain = key.get("x5c")
    if not isinstance(chain, list) or len(chain) != 1 or not isinstance(chain[0], str):
        raise BadBundle("a key of use `x509-svid` has exactly one certificate in `x5c`")
    try:
        return x509.load_der_x509_certificate(base64.b64decode(chain[0], validate=True))
    except (binascii.Error, ValueError) as error:
        raise BadBundle("a certificate in it cannot be read") from error


def _check_root(certificate: x509.Certificate, number: int) -> None:
    try:
        extensions = certificate.extensions
        is_authority = extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        # Also whether they can be read at all.
        _ = (certificate.subject.public_bytes(), certificate.public_key())
    except x509.ExtensionNotFound:
        is_authority = False
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise BadBundle(f"its certificate {number} cannot be read") from error
    except UnsupportedAlgorithm as error:
        raise BadBundle(f"the key of its certificate {number} is of an unknown kind") from error
    if not is_authority:
        raise BadBundle(
            f"its certificate {number} is not one of an authority (CA:TRUE): a bundle holds roots, no leaves"
        )
    try:
        usage = extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return
    if not usage.key_cert_sign:
        raise BadBundle(f"its certificate {number} may not sign certificates")
