"""The configuration by which Google's client libraries get tokens on their own: `external_account` (AIP-4117).

Rules: what is made here holds names, addresses and paths, and never a secret; a library that reads it asks the source
for a subject token, exchanges it at Google's token service, and impersonates where that is asked for. The form is the
one that google-auth 2.62 reads; others read the same.
Not here: choosing from what a person typed (app/credentials.py), serving subject tokens (adapters/metadata_door.py).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from spangate.errors import YourFault
from spangate.model.google import GoogleFederation, Impersonation, SubjectTokenType
from spangate.model.identity import SpiffeId

Json = dict[str, Any]

# The header without which the local door gives no subject token, and the field of its answer.
IDENTITY_HEADER = "X-Spangate-Identity"
SUBJECT_FIELD = "subject_token"
SUBJECT_PATH = "/spangate/subject-token"
# Starting Python and asking the authority takes half a second; a machine under load gets patience. Libraries take 5 to
# 120 s.
EXECUTABLE_TIMEOUT_MS = 30_000
# Libraries split the command each in its own way: by shell rules, by spaces, with and without quotes. A word that all
# of them leave whole holds none of what they differ on.
_PLAIN_WORD = re.compile(r"[A-Za-z0-9_./:@%+=,~-]+", re.ASCII)


class SourceKind(Enum):
    """Where a library gets the subject token from. The value is the word on the command line."""

    FILE = "file"
    URL = "url"
    EXECUTABLE = "executable"
    CERTIFICATE = "certificate"


@dataclass(frozen=True, slots=True)
class FileSource:
    """A file that somebody keeps fresh, for instance Kubernetes' projected volume. Read anew at every refresh."""

    path: str


@dataclass(frozen=True, slots=True)
class UrlSource:
    """The door of `spangate metadata` on `port` of this machine, which serves `identity` alone."""

    port: int
    identity: SpiffeId


@dataclass(frozen=True, slots=True)
class ExecutableSource:
    """A command that prints Google's executable response (executable_response.py)."""

    command: Sequence[str]


@dataclass(frozen=True, slots=True)
class CertificateSource:
    """An X.509-SVID that somebody keeps fresh in files. `configuration` is where `certificate_configuration` lies."""

    certificate: str
    key: str
    configuration: str


Source = FileSource | UrlSource | ExecutableSource | CertificateSource


@dataclass(frozen=True, slots=True)
class GoogleEndpoints:
    """Where the services are reached; another installation's stand-in has its own."""

    token_url: str = "https://sts.googleapis.com/v1/token"  # noqa: S105 - an address
    mtls_token_url: str = "https://sts.mtls.googleapis.com/v1/token"  # noqa: S105
    # Libraries show their certificate in the exchange only, so impersonation has no second address.
    credentials_url: str = "https://iamcredentials.googleapis.com"


GOOGLE = GoogleEndpoints()


def external_account(
    federation: GoogleFederation,
    impersonation: Impersonation | None,
    source: Source,
    endpoints: GoogleEndpoints = GOOGLE,
) -> Json:
    """The configuration. Raises YourFault for what its form cannot say or its source cannot give."""
    _check(federation, impersonation, source)
    token_url = endpoints.mtls_token_url if isinstance(source, CertificateSource) else endpoints.token_url
    found: Json = {
        "type": "external_account",
        "universe_domain": "googleapis.com",
        "audience": federation.audience,
        "subject_token_type": federation.subject_token.urn,
        "token_url": token_url,
        "token_info_url": token_url.removesuffix("/token") + "/introspect",
        "credential_source": _credential_source(source),
    }
    if impersonation is not None:
        found["service_account_impersonation_url"] = (
            f"{endpoints.credentials_url}/v1/projects/-/serviceAccounts/{impersonation.service_account}"
            ":generateAccessToken"
        )
        found["service_account_impersonation"] = {"token_lifetime_seconds": impersonation.lifetime_seconds}
    return found


def certificate_configuration(source: CertificateSource) -> Json:
    """What Google's libraries call the certificate configuration: where certificate and key lie, not what they are."""
    return {"cert_configs": {"workload": {"cert_path": source.certificate, "key_path": source.key}}}


def choose_source(
    federation: GoogleFederation, *, token_file: bool, port: bool, certificate: bool
) -> tuple[SourceKind, str]:
    """The source that fits what is at hand, and why. The three say what was named on the command line."""
    if federation.subject_token is SubjectTokenType.MTLS:
        return SourceKind.CERTIFICATE, "the intent has `subject_token: mtls`"
    if certificate:
        return SourceKind.CERTIFICATE, "a certificate is named"
    if token_file:
        return SourceKind.FILE, "a token file is named"
    if port:
        return SourceKind.URL, "a port is named"
    return SourceKind.EXECUTABLE, "neither token file nor port is named, and `spangate` itself can give the token"


def _credential_source(source: Source) -> Json:
    match source:
        case FileSource(path):
            return {"file": path, "format": {"type": "text"}}
        case UrlSource(port, identity):
            return {
                "url": f"http://127.0.0.1:{port}{SUBJECT_PATH}",
                "headers": {IDENTITY_HEADER: str(identity)},
                "format": {"type": "json", "subject_token_field_name": SUBJECT_FIELD},
            }
        case ExecutableSource(command):
            return {"executable": {"command": _one_line(command), "timeout_millis": EXECUTABLE_TIMEOUT_MS}}
        case CertificateSource():
            return {
                "certificate": {
                    "certificate_config_location": source.configuration,
                    # An SVID's file holds its chain, the leaf first.
                    "trust_chain_path": source.certificate,
                }
            }


def _check(federation: GoogleFederation, impersonation: Impersonation | None, source: Source) -> None:
    certificate = isinstance(source, CertificateSource)
    if certificate != (federation.subject_token is SubjectTokenType.MTLS):
        word = federation.subject_token.value
        raise YourFault(
            f"the provider takes `subject_token: {word}`, and this source gives "
            + ("a certificate" if certificate else "a token"),
            help="`--source certificate` goes with `subject_token: mtls`, the other sources with `jwt` and `id_token`",
        )
    if impersonation is not None and impersonation.delegates:
        raise YourFault(
            "the libraries' configuration has no place for delegates",
            help="let Spangate impersonate: `spangate run --direct`, or go through the gateway",
        )


def _one_line(command: Sequence[str]) -> str:
    for word in command:
        if not _PLAIN_WORD.fullmatch(word):
            raise YourFault(
                f"`{word}` cannot stand in the configuration: libraries split a command each in its own way",
                help="use paths and names without spaces, quotes and signs",
            )
    return shlex.join(command)
