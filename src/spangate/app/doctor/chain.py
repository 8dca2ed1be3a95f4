"""The chain for one identity, link by link: what is asked, and what the answers mean.

Rules: looking changes nothing but for what every look of a workload leaves: a certificate of an hour, two lines in the
audit, a session that is deleted again. What a link has learned, the next ones use.
Not here: the order and what is skipped (walk.py), asking (adapters/probes.py), showing (cli/doctor.py).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

from cryptography import x509

from spangate.adapters.probes import CallRefused
from spangate.adapters.state import Running
from spangate.adapters.svid_client import Svid
from spangate.app.doctor.walk import Link, NotChecked, Problem
from spangate.authority.template import SVID_BACKDATE
from spangate.broker.diagnosis import Call
from spangate.broker.token import AccessToken
from spangate.errors import Broken, SpangateError
from spangate.model.google import GoogleFederation, SubjectTokenType
from spangate.model.identity import SpiffeId
from spangate.model.policy import Policy, PolicyDatabase, role_of

# Certificates begin this long before they are made, so that a clock may be as far behind.
CLOCK_SKEW_MAX = SVID_BACKDATE
T = TypeVar("T")
_AWAY_FIX = "it may pass by itself; else see whether this machine reaches Google (network, firewall)"
_CLOCK_FIX = "timedatectl status    (and switch on time synchronisation)"
_REASON = re.compile(r"\[([a-z-]+)[,\]]")
# All that the filter says of a certificate (dataplane/lua/peer.lua), which carries no reason.
_OF_THE_CERTIFICATE = "client certificate"
_OURS = "spangate:"


class Clock(Protocol):
    """Tells the time."""

    def now(self) -> datetime:
        """Now, aware, in UTC."""


class Probes(Protocol):
    """How the world is asked. Everything raises SpangateError for what does not answer."""

    def environment(self, *, emulator: bool) -> str:
        """What is installed, with `emulator` also the emulator that `up` would start."""

    def running(self) -> Running:
        """What `up` says of itself."""

    def parts(self, running: Running) -> Sequence[tuple[str, str | None]]:
        """Each part of `up` and why it does not answer; None if it does."""

    def identity(self, word: str, trust_domain: str | None) -> SpiffeId:
        """Whom the word on the command line means."""

    def policy(self) -> Policy:
        """The intent as it is now, checked."""

    def epoch(self, running: Running) -> str:
        """What the checkpoint decides by."""

    def svid(self, running: Running, identity: SpiffeId) -> Svid:
        """A certificate for a fresh key."""

    def gateways_certificate(self, address: str, bundle_pem: str) -> x509.Certificate:
        """What the gateway shows, verified against the bundle."""

    def session(self, address: str, svid: Svid, database: str) -> str:
        """A new session through the gateway. Raises CallRefused too."""

    def select_one(self, address: str, svid: Svid, session: str) -> None:
        """`SELECT 1` in it, and its end. Raises CallRefused too."""

    def token(self, running: Running, identity: SpiffeId) -> AccessToken:
        """Its token of Google's, from the broker. What is raised says in `step` which call to Google failed."""

    def roles(self, running: Running, token: AccessToken, database: str) -> Sequence[str]:
        """The database's roles, as Spanner itself tells the identity. Raises CallRefused too."""

    def date(self, url: str) -> datetime:
        """What the server at `url` takes for now."""


class Chain:
    """The links for the identity that `word` names. Walked once."""

    def __init__(self, word: str, probes: Probes, clock: Clock) -> None:
        self._word = word
        self._probes = probes
        self._clock = clock
        self._running: Running | None = None
        self._identity: SpiffeId | None = None
        self._policy: Policy | None = None
        self._svid: Svid | None = None
        self._token: AccessToken | None = None
        # Why the last step to a token failed, though those before it did not.
        self._not_impersonated: SpangateError | None = None
        self._session = ""
        # What the gateway said instead of giving a session, though it took the certificate.
        self._refused: CallRefused | None = None

    def links(self) -> tuple[Link, ...]:
        """In the order in which a request meets them."""
        return (
            Link("environment", (), self._environment),
            Link("up", (), self._up),
            Link("intent", (), self._intent),
            Link("certificate", ("up",), self._certificate),
            Link("trust", ("certificate",), self._trust),
            Link("clock", ("certificate",), self._clocks),
            Link("exchange", ("intent", "certificate"), self._exchange),
            Link("impersonation", ("exchange",), self._impersonation),
            # It asks the broker for a token, and would only say once more why there is none.
            Link("gateway", ("intent", "trust"), self._gateway, unless_broken=("exchange", "impersonation")),
            Link("permission", ("gateway",), self._permission),
            Link("role", ("intent", "up"), self._role),
        )

    # What runs, and what it runs by.

    def _environment(self) -> str:
        return self._probes.environment(emulator=self._running_or_none() is None)

    def _up(self) -> str:
        running = self._running = self._probes.running()
        parts = self._probes.parts(running)
        silent = [(name, why) for name, why in parts if why is not None]
        if silent:
            raise Problem(
                ", ".join(f"the {name} does not answer ({why})" for name, why in silent),
                "`up` starts what dies again; if it stays so, see .spangate/logs, and start `spangate up` anew",
            )
        return f"runs (pid {running.pid}): {', '.join(name for name, _ in parts)} answer"

    def _intent(self) -> str:
        running = self._running_or_none()
        self._identity = self._probes.identity(self._word, running.trust_domain if running else None)
        policy = self._policy = self._probes.policy()
        name = policy.name_of.get(self._identity)
        if name is None:
            raise Problem(
                f"the intent does not name `{self._identity}`",
                "give it a name under `identities`, and grants under `access`",
            )
        now = self._clock.now()
        held = [grant for grant in policy.grants if grant.identity == name and not grant.deny]
        standing = [grant for grant in held if grant.stands(now)]
        if not standing:
            what = f"what `{name}` held has ended" if held else f"`{name}` holds no grant"
            raise Problem(f"{what}: everything is denied", f"`access: {{{name}: ...}}` in the intent gives it some")
        self._check_in_force(policy, running)
        return (
            f"policy {policy.version} names `{name}` ({self._identity}) and gives it {_count(len(standing), 'grant')}"
        )

    def _check_in_force(self, policy: Policy, running: Running | None) -> None:
        """The checkpoint decides by the file as it is."""
        if running is None:
            return
        epoch = self._probes.epoch(running)
        if epoch.partition(".")[0] != policy.version:
            raise Problem(
                f"the file is policy {policy.version}, and the gate decides by {epoch.partition('.')[0]}",
                "`up` takes a change up within a second, and says in its terminal why not; is it another file?",
            )

    # Who the workload is, and whether both sides believe it.

    def _certificate(self) -> str:
        running, identity = self._needed(self._running), self._identity
        if identity is None:
            raise NotChecked(f"not checked: who `{self._word}` is, the intent does not say")
        svid = self._svid = self._probes.svid(running, identity)
        left = int((svid.not_after - self._clock.now()).total_seconds())
        if left <= 0:
            raise Problem(
                f"the authority's new certificate has ended already, at {svid.not_after:%H:%M:%S}Z", _CLOCK_FIX
            )
        return f"the authority gave one to `{identity}`, good for {left // 60} min"

    def _trust(self) -> str:
        running, svid = self._needed(self._running), self._needed(self._svid)
        shown = self._probes.gateways_certificate(running.gateway, svid.secrets.bundle_pem)
        names = uri_names(shown)
        if names != [running.gateway_identity]:
            raise Problem(
                f"the gateway at {running.gateway} is `{', '.join(names) or 'nobody'}`, "
                f"not `{running.gateway_identity}`",
                "something else listens at that port; start `spangate up` anew",
            )
        return f"the gateway at {running.gateway} proves that it is `{running.gateway_identity}`"

    def _gateway(self) -> str:
        running, svid = self._needed(self._running), self._needed(self._svid)
        if not running.gateway_is_own:
            # gRPC verifies host names only.
            raise NotChecked(
                "not checked: the gateway's certificate is a mesh's and names no host; `spangate run` verifies its "
                "SPIFFE ID"
            )
        try:
            self._session = self._probes.session(running.gateway, svid, str(self._database().path))
        except CallRefused as refused:
            if refused.details.startswith(_OURS) and _OF_THE_CERTIFICATE in refused.details:
                raise Problem(
                    _said(refused), "the gateway trusts other roots than the authority: start `spangate up` anew"
                ) from refused
            if refused.code == "UNAVAILABLE":
                raise Problem(f"the gateway cannot answer: {_said(refused)}", "see .spangate/logs") from refused
            self._refused = refused
        return f"takes the certificate of `{svid.identity}`"

    # Which time it is.

    def _clocks(self) -> str:
        running, svid = self._needed(self._running), self._needed(self._svid)
        begins = x509.load_pem_x509_certificates(svid.secrets.chain_pem.encode())[0].not_valid_before_utc
        if self._clock.now() < begins:
            raise Problem(
                f"this machine's clock is behind the authority's: its certificates begin at {begins:%H:%M:%S}Z",
                _CLOCK_FIX,
            )
        agreed = ["within the certificate's time"]
        for name, url in self._clock_servers(running):
            before = self._clock.now()
            try:
                told = self._probes.date(url)
            except SpangateError as error:
                agreed.append(f"{name} not asked: {error.message}")
                continue
            # Half of the way there and back.
            ahead = before + (self._clock.now() - before) / 2 - told
            if abs(ahead) > CLOCK_SKEW_MAX:
                direction = "ahead of" if ahead > timedelta() else "behind"
                raise Problem(
                    f"this machine's clock is {abs(ahead).total_seconds():.0f} s {direction} that of {name}", _CLOCK_FIX
                )
            agreed.append(f"agrees with {name}")
        return "; ".join(agreed)

    def _clock_servers(self, running: Running) -> list[tuple[str, str]]:
        found = [("the authority", f"{running.issuer}/.well-known/openid-configuration")]
        if running.sts:
            found.append(("Google's token service", f"{running.sts}/"))
        return found

    # Its token at Google.

    def _exchange(self) -> str:
        running, identity, federation = self._needed(self._running), self._needed(self._identity), self._federation()
        try:
            self._token = self._probes.token(running, identity)
        except SpangateError as error:
            if error.step != Call.IMPERSONATION.value:
                raise Problem(error.message, error.help or _AWAY_FIX) from error
            self._not_impersonated = error
        subject = "certificate" if federation.subject_token is SubjectTokenType.MTLS else "token"
        return f"Google takes its {subject} at provider `{federation.provider}` of pool `{federation.pool}`"

    def _impersonation(self) -> str:
        impersonation = self._federation().impersonation
        if impersonation is None:
            raise NotChecked("not checked: it uses its own token and impersonates nobody")
        if self._not_impersonated is not None:
            raise Problem(self._not_impersonated.message, self._not_impersonated.help or _AWAY_FIX)
        left = int((self._needed(self._token).expires_at - self._clock.now()).total_seconds())
        return f"it gets tokens of `{impersonation.service_account}`, this one for {left // 60} min"

    def _federation(self) -> GoogleFederation:
        policy, identity = self._needed(self._policy), self._needed(self._identity)
        if policy.google is None:
            raise NotChecked("not checked: the intent has no `google`, so nobody gets a token of Google's")
        return policy.federations[identity]

    # What it may do.

    def _permission(self) -> str:
        running, svid, database = self._needed(self._running), self._needed(self._svid), self._database()
        if self._refused is not None:
            raise _not_permitted(self._refused, database)
        try:
            self._probes.select_one(running.gateway, svid, self._session)
        except CallRefused as refused:
            raise _not_permitted(refused, database) from refused
        enforced = "; the emulator does not enforce roles" if running.emulator else ""
        return f"`SELECT 1` in `{database.alias}` was allowed and answered{enforced}"

    def _role(self) -> str:
        running, policy, database = self._needed(self._running), self._needed(self._policy), self._database()
        name = policy.name_of[self._needed(self._identity)]
        role = role_of(name)
        if running.emulator:
            raise NotChecked(f"not checked: sessions get `{role}`, and the emulator has no roles")
        if self._token is None:
            raise NotChecked(f"not checked: sessions get `{role}`, and without a token Spanner tells no roles")
        try:
            roles = self._probes.roles(running, self._token, str(database.path))
        except CallRefused as refused:
            raise NotChecked(
                f"not checked: sessions get `{role}`; Spanner does not tell `{name}` which roles there are "
                f"({refused.code}: {refused.details})"
            ) from refused
        if role not in roles:
            raise Problem(
                f"`{database.alias}` has no role `{role}`, which every session of this identity gets",
                f"CREATE ROLE {role}    (and GRANT what the intent gives it)",
            )
        return f"`{database.alias}` has the role `{role}`"

    def _database(self) -> PolicyDatabase:
        """One in which the identity holds something."""
        policy, identity = self._needed(self._policy), self._needed(self._identity)
        now = self._clock.now()
        name = policy.name_of[identity]
        alias = min(g.database for g in policy.grants if g.identity == name and not g.deny and g.stands(now))
        return policy.databases[alias]

    def _running_or_none(self) -> Running | None:
        if self._running is None:
            try:
                self._running = self._probes.running()
            except SpangateError:
                return None
        return self._running

    @staticmethod
    def _needed(found: T | None) -> T:
        if found is None:
            raise Broken("a link was looked at before the one it needs")
        return found


def uri_names(certificate: x509.Certificate) -> list[str]:
    """The URI names in a certificate."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return []
    return names.get_values_for_type(x509.UniformResourceIdentifier)


def reason_of(refused: CallRefused) -> str:
    """Spangate's own word for a refusal; empty if it is not Spangate's."""
    found = _REASON.search(refused.details)
    return found[1] if found and refused.details.startswith(_OURS) else ""


def _said(refused: CallRefused) -> str:
    return refused.details.removeprefix(_OURS).strip()


def _not_permitted(refused: CallRefused, database: PolicyDatabase) -> Problem:
    reason = reason_of(refused)
    if reason:
        return Problem(_said(refused), f"docs/reasons.md says what to do about `{reason}`")
    if refused.details.startswith(_OURS):
        return Problem(_said(refused), "spangate log --denied    (and docs/reasons.md)")
    if refused.code == "NOT_FOUND":
        return Problem(
            f"Spanner has no database `{database.path}`: {refused.details}",
            "compare project, instance and database in the intent with what there is",
        )
    return Problem(
        f"Spanner itself answered {refused.code}: {refused.details}",
        f"gcloud spanner databases get-iam-policy {database.path.database} --instance={database.path.instance} "
        f"--project={database.path.project}",
    )


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
