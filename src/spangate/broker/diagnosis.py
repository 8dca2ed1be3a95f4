"""Which link of the chain to Google is wrong, from what Google answers: one sentence, and the command that shows it.

Rules: every answer has a diagnosis; one that is not known is `unknown` and quoted, never guessed at. What is quoted of
Google is short, printable ASCII, and holds nothing that was sent and nothing that looks like a token: these sentences
go to clients, logs and audit. Google may change its words: a new text only makes a diagnosis less exact.
Sources: the troubleshooting pages of Workload Identity Federation and IAM; error bodies quoted in public issues
(google-github-actions/auth 60, 161, 340, 378; google-cloud-go 12440).
Not here: when to try again (cache.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from spangate.broker.answers import ANSWER_BYTES_MAX
from spangate.errors import PeersFault, SpangateError, TryAgain, YourFault
from spangate.model.google import SUBJECT_BYTES_MAX, GoogleFederation

# Google's sentences have some 200 characters; a client's message takes 1,024 bytes in all.
QUOTE_CHARACTERS_MAX = 300
# Longer than any word, name or number that Google's sentences hold; parts of tokens are longer.
_OPAQUE = re.compile(r"[A-Za-z0-9_+=-]{40,}", re.ASCII)
_TOKENS = re.compile(r"\b(?:ya29|eyJ|spangate-standin)[A-Za-z0-9._~+/=-]*", re.ASCII)
# Of what was sent, shorter pieces say nothing.
_PIECE_CHARACTERS = 16


class Link(StrEnum):
    """A link of the chain from a workload to its token."""

    POOL_OR_PROVIDER = "pool-or-provider"
    AUDIENCE = "audience"
    ISSUER = "issuer"
    ATTRIBUTE_CONDITION = "attribute-condition"
    ATTRIBUTE_MAPPING = "attribute-mapping"
    SUBJECT_LENGTH = "subject-length"
    SIGNATURE = "signature"
    CERTIFICATE = "certificate"
    CLOCK = "clock"
    SCOPE = "scope"
    ROLE_BINDING = "role-binding"
    SERVICE_ACCOUNT = "service-account"
    LIFETIME = "lifetime"
    API = "api"
    QUOTA = "quota"
    GOOGLE_AWAY = "google-away"
    UNKNOWN = "unknown"


class Call(StrEnum):
    """What was asked of Google."""

    EXCHANGE = "token exchange"
    IMPERSONATION = "impersonation"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """`sentence`: what is wrong. `command`: what shows it, to be run by whoever looks after the pool. `call`: when."""

    link: Link
    sentence: str
    command: str | None = None
    call: Call = Call.EXCHANGE


class ChainBroken(YourFault):
    """Something is not set up at Google, or here, as the other side expects it."""

    def __init__(self, diagnosis: Diagnosis) -> None:
        super().__init__(diagnosis.sentence, help=diagnosis.command)
        self.link = diagnosis.link
        self.step = diagnosis.call.value


class GoogleAway(TryAgain):
    """Google does not answer, or has too much to do. `retry_after_seconds`: what it said, if it did."""

    def __init__(self, diagnosis: Diagnosis, retry_after_seconds: float | None = None) -> None:
        super().__init__(diagnosis.sentence, help=diagnosis.command)
        self.link = diagnosis.link
        self.step = diagnosis.call.value
        self.retry_after_seconds = retry_after_seconds


class StrangeAnswer(PeersFault):
    """Google answered with something that nobody here knows."""

    def __init__(self, diagnosis: Diagnosis) -> None:
        super().__init__(diagnosis.sentence, help=diagnosis.command)
        self.link = diagnosis.link
        self.step = diagnosis.call.value


def refusal(
    call: Call,
    status: int,
    body: bytes,
    federation: GoogleFederation,
    sent: Sequence[str],
    retry_after_seconds: float | None = None,
) -> SpangateError:
    """The error for an answer that is no 200. `sent`: the secrets that were sent, which nothing may quote."""
    diagnosis = replace(diagnose(call, status, body, federation, sent), call=call)
    if diagnosis.link in (Link.QUOTA, Link.GOOGLE_AWAY):
        return GoogleAway(diagnosis, retry_after_seconds)
    return StrangeAnswer(diagnosis) if diagnosis.link is Link.UNKNOWN else ChainBroken(diagnosis)


def unreachable(call: Call, why: str) -> GoogleAway:
    """The error where no answer came. `why` is ours, a few words."""
    return GoogleAway(Diagnosis(Link.GOOGLE_AWAY, f"Google's {call} does not answer: {why}", call=call))


def unreadable(call: Call, why: str) -> StrangeAnswer:
    """The error for a 200 that cannot be read. `why` as of BadAnswer."""
    sentence = f"Google's answer to the {call} cannot be used: {why}"
    return StrangeAnswer(Diagnosis(Link.UNKNOWN, sentence, call=call))


def diagnose(call: Call, status: int, body: bytes, federation: GoogleFederation, sent: Sequence[str] = ()) -> Diagnosis:
    """What an answer with `status` (no 200) and `body` says."""
    code, text, reason = _said(body)
    words = f"{reason} {text}"
    if status == 429 or reason in ("RATE_LIMIT_EXCEEDED", "RESOURCE_EXHAUSTED"):
        return Diagnosis(
            Link.QUOTA,
            f"Google's quota for the {call} is used up",
            "gcloud alpha services quota list "
            f"--service={_service(call)} --consumer=projects/{federation.project_number}",
        )
    if status >= 500 or status == 408:
        return Diagnosis(Link.GOOGLE_AWAY, f"Google's {call} failed with status {status}; it is Google's to mend")
    rules = _EXCHANGE if call is Call.EXCHANGE else _IMPERSONATION
    for rule in rules:
        if rule.codes and code not in rule.codes:
            continue
        if re.search(rule.pattern, words, re.IGNORECASE | re.ASCII):
            quote = quoted(text, sent)
            said = f" (Google: {quote})" if quote else ""
            return Diagnosis(rule.link, rule.sentence(federation) + said, rule.command(federation))
    quote = quoted(f"{code}: {text}" if code and text else code or text, sent)
    said = f": {quote}" if quote else ", without a word"
    command = describe_provider(federation) if call is Call.EXCHANGE else _policy_of_account(federation)
    return Diagnosis(Link.UNKNOWN, f"Google refused the {call} with status {status}{said}", command)


def quoted(text: str, sent: Iterable[str] = ()) -> str:
    """What may be told of Google's words: one line of printable ASCII without secrets, shortened."""
    line = text[: 8 * QUOTE_CHARACTERS_MAX]
    for secret in sent:
        # A secret may be echoed in parts, as the segments of a token are.
        for piece in {secret, *re.split(r"[^A-Za-z0-9_+=-]+", secret)}:
            if len(piece) >= _PIECE_CHARACTERS:
                line = line.replace(piece, "...")
    line = _OPAQUE.sub("...", _TOKENS.sub("...", line))
    line = re.sub(r"[^ -~]+", " ", line).strip()
    return line if len(line) <= QUOTE_CHARACTERS_MAX else line[: QUOTE_CHARACTERS_MAX - 3] + "..."


def describe_provider(federation: GoogleFederation) -> str:
    """Shows audiences, issuer, mapping, condition and trust store of the provider."""
    return (
        f"gcloud iam workload-identity-pools providers describe {federation.provider} --location=global "
        f"--workload-identity-pool={federation.pool} --project={federation.project_number}"
    )


def describe_pool(federation: GoogleFederation) -> str:
    """Shows whether the pool is there and enabled."""
    return (
        f"gcloud iam workload-identity-pools describe {federation.pool} --location=global "
        f"--project={federation.project_number}"
    )


def _account(federation: GoogleFederation) -> str:
    return federation.impersonation.service_account if federation.impersonation else "ACCOUNT"


def _policy_of_account(federation: GoogleFederation) -> str:
    return f"gcloud iam service-accounts get-iam-policy {_account(federation)}"


def _describe_account(federation: GoogleFederation) -> str:
    return f"gcloud iam service-accounts describe {_account(federation)}"


def _clock(_: GoogleFederation) -> str:
    return "timedatectl status"


def _enabled_services(federation: GoogleFederation) -> str:
    return (
        f"gcloud services list --enabled --project={federation.project_number} "
        "--filter='name:(sts.googleapis.com iamcredentials.googleapis.com)'"
    )


def _service(call: Call) -> str:
    return "sts.googleapis.com" if call is Call.EXCHANGE else "iamcredentials.googleapis.com"


_Text = Callable[[GoogleFederation], str]


@dataclass(frozen=True, slots=True)
class _Rule:
    """The first rule whose pattern is found in Google's words, and whose codes have its code, speaks."""

    link: Link
    pattern: str
    sentence: _Text
    command: _Text
    codes: tuple[str, ...] = ()


_API = _Rule(
    Link.API,
    r"SERVICE_DISABLED|has not been used in project|API .{0,80}disabled",
    lambda _: "the API that gives tokens is not enabled in its project",
    _enabled_services,
)
_EXCHANGE: tuple[_Rule, ...] = (
    _API,
    _Rule(
        Link.POOL_OR_PROVIDER,
        r"target service|disabled or deleted|doesn't exist|does not exist|not found",
        lambda f: (
            f"there is no enabled provider `{f.provider}` in an enabled pool `{f.pool}` of project {f.project_number}"
        ),
        describe_pool,
        ("invalid_target", "NOT_FOUND"),
    ),
    _Rule(
        Link.AUDIENCE,
        r"invalid value for .?audience",
        lambda f: (
            f"`{f.audience}` is not the full name of a provider: project_number, pool or provider in the intent "
            "is wrong"
        ),
        describe_provider,
    ),
    _Rule(
        Link.SUBJECT_LENGTH,
        rf"google\.subject.{{0,80}}(exceed|longer|{SUBJECT_BYTES_MAX}|bytes)|{SUBJECT_BYTES_MAX} bytes",
        lambda _: (
            f"the identity gives a `google.subject` of more than {SUBJECT_BYTES_MAX} bytes; map a part of it: "
            "google.subject=assertion.sub.extract('spiffe://<trust domain>/{id}')"
        ),
        describe_provider,
    ),
    _Rule(
        Link.ATTRIBUTE_CONDITION,
        r"attribute condition",
        lambda f: f"the attribute condition of provider `{f.provider}` rejects this identity",
        describe_provider,
    ),
    _Rule(
        Link.ATTRIBUTE_MAPPING,
        r"mapped attribute|attribute mapping|google\.subject|mapping .{0,40}(fail|evaluat)",
        lambda f: f"the attribute mapping of provider `{f.provider}` does not fit this identity",
        describe_provider,
    ),
    _Rule(
        Link.CLOCK,
        r"stale|issued at|issued in the future|not yet valid|iat\b|expired|exp\b",
        lambda _: "Google takes the subject token for too old or not yet valid: this machine's clock is wrong",
        _clock,
    ),
    _Rule(
        Link.AUDIENCE,
        r"audience|\baud\b",
        lambda f: f"provider `{f.provider}` does not allow the audience of our tokens, `{f.token_audience}`",
        describe_provider,
    ),
    _Rule(
        Link.CERTIFICATE,
        r"certificate|trust (store|anchor)|x\.?509|mtls",
        lambda f: (
            f"provider `{f.provider}` does not accept the certificate: its trust store lacks our root, or the "
            "chain is not the one of the connection"
        ),
        describe_provider,
    ),
    _Rule(
        Link.SIGNATURE,
        r"signature|signing key|public key|jwks|json web key|key id|\bkid\b|verify",
        lambda f: (
            f"provider `{f.provider}` has not the key that signed our token: its uploaded keys, or what it finds "
            "at the issuer, are not those of `spangate jwks`"
        ),
        describe_provider,
    ),
    _Rule(
        Link.ISSUER,
        r"issuer|\biss\b",
        lambda f: (
            f"the issuer of our tokens is not that of provider `{f.provider}`, or Google cannot reach it, or finds "
            "not there the key that signed"
        ),
        describe_provider,
    ),
    _Rule(Link.SCOPE, r"scope", lambda _: "Google does not know a scope of the intent", describe_provider),
    _Rule(
        Link.POOL_OR_PROVIDER,
        r"permission.{0,80}denied|workloadIdentityPool",
        lambda f: f"pool `{f.pool}` or provider `{f.provider}` does not let this identity in",
        describe_pool,
    ),
)
_IMPERSONATION: tuple[_Rule, ...] = (
    _API,
    _Rule(
        Link.SERVICE_ACCOUNT,
        r"NOT_FOUND|not found|does not exist|account.{0,40}disabled|account ID",
        lambda f: f"there is no enabled service account `{_account(f)}`, or a delegate of it is missing",
        _describe_account,
        ("NOT_FOUND", "FAILED_PRECONDITION", "INVALID_ARGUMENT"),
    ),
    _Rule(
        Link.SCOPE,
        r"SCOPE_INSUFFICIENT|authentication scopes",
        lambda _: "the federated token's scope does not let it impersonate",
        describe_provider,
    ),
    _Rule(
        Link.ROLE_BINDING,
        r"PERMISSION_DENIED|getAccessToken|does not have permission|permission.{0,80}denied",
        lambda f: (
            f"the identity has no roles/iam.workloadIdentityUser on service account `{_account(f)}`, or a "
            "delegate no roles/iam.serviceAccountTokenCreator on the next one"
        ),
        _policy_of_account,
    ),
    _Rule(
        Link.LIFETIME,
        r"lifetime",
        lambda f: f"service account `{_account(f)}` may not have tokens that live so long",
        _describe_account,
    ),
    _Rule(Link.SCOPE, r"scope", lambda _: "Google does not know a scope of the intent", _describe_account),
    _Rule(
        Link.POOL_OR_PROVIDER,
        r"UNAUTHENTICATED|invalid authentication",
        lambda f: f"Google does not take the federated token that it gave: pool `{f.pool}` may be disabled",
        describe_pool,
    ),
)


def _said(body: bytes) -> tuple[str, str, str]:
    """Code, sentence and reason: of OAuth's errors (RFC 6749, 5.2) or of Google's APIs; empty where there are none."""
    try:
        answer = json.loads(body[:ANSWER_BYTES_MAX])
    except (ValueError, RecursionError):
        return "", "", ""
    if not isinstance(answer, dict):
        return "", "", ""
    error = answer.get("error")
    if not isinstance(error, dict):
        return _word(error), _word(answer.get("error_description")), ""
    details = error.get("details")
    reasons = (
        [_word(one.get("reason")) for one in details if isinstance(one, dict)] if isinstance(details, list) else []
    )
    status = _word(error.get("status"))
    return status, _word(error.get("message")), " ".join([status, *filter(None, reasons)])


def _word(value: object) -> str:
    return value if isinstance(value, str) else ""
