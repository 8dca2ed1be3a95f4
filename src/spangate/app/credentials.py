"""`spangate credentials`: the configuration by which a library of Google's gets tokens for an identity on its own.

Rules: needs the intent and nothing that runs; what is written holds no secret, and a file that is something else is
not overwritten.
Not here: the form (compiler/credentials.py), rendering (cli/).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spangate.adapters.intent_files import read_intent
from spangate.app.google import federation_of
from spangate.app.identities import identity_named
from spangate.compiler.credentials import (
    CertificateSource,
    ExecutableSource,
    FileSource,
    Source,
    SourceKind,
    UrlSource,
    certificate_configuration,
    choose_source,
    external_account,
)
from spangate.errors import YourFault
from spangate.model.google import GoogleFederation
from spangate.model.identity import SpiffeId

# What stands in a file that may be overwritten; no configuration is longer.
_READ_BYTES_MAX = 64 * 1024
_KIND = "external_account"


@dataclass(frozen=True, slots=True)
class CredentialsOptions:
    """What stands on the command line. `program` is the path of `spangate` itself; `port` 0 is none."""

    intent: Path
    identity: str
    program: str
    source: SourceKind | None = None
    token_file: Path | None = None
    port: int = 0
    certificate: Path | None = None
    key: Path | None = None
    out: Path | None = None


@dataclass(frozen=True, slots=True)
class Credentials:
    """The configuration, the second file that a certificate needs, why this source, and what it needs."""

    configuration: Mapping[str, Any]
    certificates: Mapping[str, Any] | None
    kind: SourceKind
    why: str
    needs: str


def credentials_for(options: CredentialsOptions) -> Credentials:
    """What to write, or to print. Raises YourFault."""
    trust_domain = read_intent(options.intent).trust_domain.text
    identity = identity_named(options.identity, options.intent, trust_domain)
    federation = federation_of(options.intent, identity)
    kind, why = choose_source(
        federation,
        token_file=options.token_file is not None,
        port=options.port != 0,
        certificate=options.certificate is not None,
    )
    if options.source is not None:
        kind, why = options.source, "it was asked for"
    source = _source(options, kind, identity, federation)
    return Credentials(
        external_account(federation, federation.impersonation, source),
        certificate_configuration(source) if isinstance(source, CertificateSource) else None,
        kind,
        why,
        _needs(options, kind),
    )


def write(found: Credentials, out: Path) -> tuple[Path, ...]:
    """The files that were written. Raises YourFault."""
    contents = {out: found.configuration}
    if found.certificates is not None:
        contents[certificates_path(out)] = found.certificates
    for path in contents:
        _check_overwritten(path)
    for path, content in contents.items():
        temporary = path.with_name(path.name + ".new")
        try:
            temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
            temporary.replace(path)
        except OSError as error:
            raise YourFault(f"cannot write `{path}`: {error.strerror}") from error
    return tuple(contents)


def certificates_path(out: Path) -> Path:
    """Where the second file lies: beside the first."""
    return out.with_name(f"{out.stem}.certificates.json")


def _source(options: CredentialsOptions, kind: SourceKind, identity: SpiffeId, federation: GoogleFederation) -> Source:
    match kind:
        case SourceKind.FILE:
            path = _needed(options.token_file, kind, "--token-file", "whoever writes the token, Kubernetes' kubelet")
            return FileSource(str(path.absolute()))
        case SourceKind.URL:
            if not options.port:
                raise YourFault("`--source url` needs `--port`", help="the port that `spangate metadata --port` serves")
            return UrlSource(options.port, identity)
        case SourceKind.EXECUTABLE:
            command = [options.program, "token", "--as", str(identity), "--audience", federation.token_audience]
            return ExecutableSource([*command, "--executable-json", "--intent", str(options.intent.absolute())])
        case SourceKind.CERTIFICATE:
            certificate = _needed(options.certificate, kind, "--certificate", "the SVID's chain, the leaf first")
            key = _needed(options.key, kind, "--key", "the SVID's private key")
            out = _needed(options.out, kind, "--out", "two files are written, and one names the other")
            return CertificateSource(
                str(certificate.absolute()), str(key.absolute()), str(certificates_path(out).absolute())
            )


def _needed(path: Path | None, kind: SourceKind, option: str, what: str) -> Path:
    if path is None:
        raise YourFault(f"`--source {kind.value}` needs `{option}`", help=what)
    return path


def _needs(options: CredentialsOptions, kind: SourceKind) -> str:
    """One line about what has to be there when a library reads the configuration."""
    match kind:
        case SourceKind.FILE:
            return f"somebody keeps a fresh token in `{options.token_file}`"
        case SourceKind.URL:
            return f"`spangate metadata --as {options.identity} --port {options.port}` runs on the same machine"
        case SourceKind.EXECUTABLE:
            return "GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES=1 in the environment, and `spangate up` running"
        case SourceKind.CERTIFICATE:
            return f"somebody keeps a fresh SVID in `{options.certificate}` and its key in `{options.key}`"


def _check_overwritten(path: Path) -> None:
    """Only what has been written here before may be overwritten: a key that lies there is not to be lost."""
    try:
        with path.open("rb") as file:
            before = json.loads(file.read(_READ_BYTES_MAX))
    except FileNotFoundError:
        return
    except (OSError, ValueError, RecursionError):
        before = None
    if not isinstance(before, dict) or (before.get("type") != _KIND and set(before) != {"cert_configs"}):
        raise YourFault(f"`{path}` exists and is no configuration of this kind", help="choose another --out")
