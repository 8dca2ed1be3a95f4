"""What the Workload API gives out, from an authority in this process, or from one behind its door.

Rules: a key is made here and kept in memory: the API's own definition has the server make it and hand it over. What an
authority behind a door answers is held against what was asked (svid_client.py) before anybody is given it.
Not here: to whom (workload_door.py), signing (authority/).
"""

from __future__ import annotations

from collections.abc import Callable

from spangate.adapters.attest_client import AttestClient
from spangate.adapters.holdings import Holding
from spangate.adapters.keys import request_pem
from spangate.adapters.peer_client import Peer, gone, report
from spangate.adapters.svid_client import Svid, SvidClient, verified
from spangate.authority.ca import Authority, Clock
from spangate.authority.federation import Roots, known_roots
from spangate.authority.founding import Keys
from spangate.authority.jwt_svid import JwtAuthority, ValidJwt, validate_jwt_svid
from spangate.authority.peers import Peers
from spangate.authority.workload_api import Bundles, X509Svid
from spangate.model.identity import SpiffeId

# What people call whoever reports here.
KIND = "Workload API"
FOR_BUNDLES = "for bundles"


class AuthorityIssuer:
    """Of an authority in this process."""

    def __init__(
        self,
        authority: Authority,
        tokens: JwtAuthority,
        keys: Keys,
        peers: Peers | None = None,
        roots: Roots | None = None,
    ) -> None:
        """`peers`: who is told what is in use; without, a rotation waits until certificates have ended. `roots`: of all
        trust domains; the authority's own if left out.
        """
        self._roots = roots or known_roots(authority)
        self._peers = peers
        self._authority = authority
        self._tokens = tokens
        self._keys = keys

    def x509_svid(self, identity: SpiffeId, holder: str) -> X509Svid:
        """A certificate for a fresh key. Raises what Authority.sign raises."""
        key = self._keys.new_key()
        issued = self._authority.sign(request_pem(key), identity, holder=holder if self._peers else "")
        return _given(verified(identity, key, issued.chain_pem, issued.bundle_pem))

    def jwt_svid(self, identity: SpiffeId, audiences: tuple[str, ...]) -> str:
        """A token. Raises what JwtAuthority.sign raises."""
        return self._tokens.sign(identity, audiences).token

    def bundles(self) -> Bundles:
        """What is trusted now."""
        return Bundles(self._roots(), {self._authority.trust_domain: self._tokens.spiffe_bundle()})

    def validate(self, token: str, audience: str) -> ValidJwt:
        """Whom a token speaks for. Raises BadToken."""
        return self._tokens.validate(token, audience)

    def signer(self) -> str:
        """The root under which certificates are signed now, by its fingerprint."""
        return self._authority.state.signer.fingerprint

    def report(self, holder: str, identity: SpiffeId | None, trusts: frozenset[str], uses: str) -> bool:
        """Whether the certificate is to be made anew. Raises what Peers.seen raises."""
        if self._peers is None:
            return False
        who = FOR_BUNDLES if identity is None else str(identity)
        return self._peers.seen(holder, who, kind=KIND, trusts=trusts, uses=uses).renew

    def gone(self, holder: str) -> None:
        """Nobody has it any more. Raises what Peers.gone raises."""
        if self._peers is not None:
            self._peers.gone(holder)


class DoorIssuer:
    """Of the authority behind a door: for `spangate run`, whose command has one identity."""

    def __init__(self, client: Callable[[], SvidClient], trust_domain: str, clock: Clock) -> None:
        """`client` says where the door is now: the authority may have been started anew elsewhere."""
        self._client = client
        self._trust_domain = trust_domain
        self._clock = clock

    def x509_svid(self, identity: SpiffeId, holder: str) -> X509Svid:
        """A certificate for a fresh key. Raises what SvidClient.fetch raises."""
        return _given(self._client().fetch(identity, holder))

    def jwt_svid(self, identity: SpiffeId, audiences: tuple[str, ...]) -> str:
        """A token. Raises what SvidClient.token raises."""
        token, _ = self._client().token(identity, audiences)
        return token

    def bundles(self) -> Bundles:
        """What the authority trusts now. Raises as SvidClient.fetch."""
        return self._client().bundles(self._trust_domain)

    def validate(self, token: str, audience: str) -> ValidJwt:
        """Whom a token speaks for, by the authority's keys of now. Raises BadToken."""
        return validate_jwt_svid(token, audience, self.bundles().jwks, self._clock.now())

    def signer(self) -> str:
        """Not told by the door; the answer to a report says when a certificate is to be made anew."""
        return ""

    def report(self, holder: str, identity: SpiffeId | None, trusts: frozenset[str], uses: str) -> bool:
        """Whether the certificate is to be made anew. Raises as SvidClient.fetch."""
        who = FOR_BUNDLES if identity is None else identity
        return report(self._client(), Peer(holder, who, KIND), Holding(trusts, uses)).renew

    def gone(self, holder: str) -> None:
        """Nobody has it any more. Raises as SvidClient.fetch."""
        gone(self._client(), Peer(holder, FOR_BUNDLES, KIND))


class PodIssuer:
    """Of the authority behind its door for pods, whose client has one identity: that of its token."""

    def __init__(self, client: AttestClient, clock: Clock) -> None:
        self._client = client
        self._clock = clock

    def x509_svid(self, identity: SpiffeId, holder: str) -> X509Svid:  # noqa: ARG002 - the client refuses others
        """A certificate for a fresh key. Raises what AttestClient.fetch raises."""
        return _given(self._client.fetch(holder))

    def jwt_svid(self, identity: SpiffeId, audiences: tuple[str, ...]) -> str:  # noqa: ARG002 - likewise
        """A token. Raises what AttestClient.token raises."""
        return self._client.token(audiences)

    def bundles(self) -> Bundles:
        """What the authority trusts now. Raises what AttestClient.bundles raises."""
        return self._client.bundles()

    def validate(self, token: str, audience: str) -> ValidJwt:
        """Whom a token speaks for, by the authority's keys of now. Raises BadToken."""
        return validate_jwt_svid(token, audience, self.bundles().jwks, self._clock.now())

    def signer(self) -> str:
        """Not told by the door; the answer to a report says when a certificate is to be made anew."""
        return ""

    def report(self, holder: str, identity: SpiffeId | None, trusts: frozenset[str], uses: str) -> bool:  # noqa: ARG002
        """Whether the certificate is to be made anew; the door knows by itself whose it is. Raises as `x509_svid`."""
        return self._client.report(holder, Holding(trusts, uses)).renew

    def gone(self, holder: str) -> None:
        """Nobody has it any more. Raises as `x509_svid`."""
        self._client.gone(holder)


def _given(svid: Svid) -> X509Svid:
    secrets = svid.secrets
    return X509Svid(svid.identity, secrets.chain_pem, secrets.key_pem, secrets.bundle_pem, svid.not_after)
