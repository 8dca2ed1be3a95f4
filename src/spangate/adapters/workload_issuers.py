"""What the Workload API gives out, from an authority in this process, or from one behind its door.

Rules: a key is made here and kept in memory: the API's own definition has the server make it and hand it over. What an
authority behind a door answers is held against what was asked (svid_client.py) before anybody is given it.
Not here: to whom (workload_door.py), signing (authority/).
"""

from __future__ import annotations

from collections.abc import Callable

from spangate.adapters.attest_client import AttestClient
from spangate.adapters.svid_client import Svid, SvidClient, sign_here
from spangate.authority.ca import Authority, Clock
from spangate.authority.founding import Keys
from spangate.authority.jwt_svid import JwtAuthority, ValidJwt, validate_jwt_svid
from spangate.authority.workload_api import Bundles, X509Svid
from spangate.model.identity import SpiffeId


class AuthorityIssuer:
    """Of an authority in this process."""

    def __init__(self, authority: Authority, tokens: JwtAuthority, keys: Keys) -> None:
        self._authority = authority
        self._tokens = tokens
        self._keys = keys

    def x509_svid(self, identity: SpiffeId) -> X509Svid:
        """A certificate for a fresh key. Raises what Authority.sign raises."""
        return _given(sign_here(self._authority, self._keys, identity))

    def jwt_svid(self, identity: SpiffeId, audiences: tuple[str, ...]) -> str:
        """A token. Raises what JwtAuthority.sign raises."""
        return self._tokens.sign(identity, audiences).token

    def bundles(self) -> Bundles:
        """What is trusted now."""
        trust_domain = self._authority.trust_domain
        return Bundles({trust_domain: self._authority.bundle_pem()}, {trust_domain: self._tokens.spiffe_bundle()})

    def validate(self, token: str, audience: str) -> ValidJwt:
        """Whom a token speaks for. Raises BadToken."""
        return self._tokens.validate(token, audience)

    def signer(self) -> str:
        """Who signs certificates now: the name of the intermediate's key, which is never used twice."""
        return self._authority.state.signer.intermediate_key


class DoorIssuer:
    """Of the authority behind a door: for `spangate run`, whose command has one identity."""

    def __init__(self, client: Callable[[], SvidClient], trust_domain: str, clock: Clock) -> None:
        """`client` says where the door is now: the authority may have been started anew elsewhere."""
        self._client = client
        self._trust_domain = trust_domain
        self._clock = clock

    def x509_svid(self, identity: SpiffeId) -> X509Svid:
        """A certificate for a fresh key. Raises what SvidClient.fetch raises."""
        return _given(self._client().fetch(identity))

    def jwt_svid(self, identity: SpiffeId, audiences: tuple[str, ...]) -> str:
        """A token. Raises what SvidClient.token raises."""
        token, _ = self._client().token(identity, audiences)
        return token

    def bundles(self) -> Bundles:
        """What the authority trusts now. Raises as SvidClient.fetch."""
        client = self._client()
        keys = [{**key, "use": "jwt-svid"} for key in client.keys()["keys"]]
        return Bundles({self._trust_domain: client.bundle()}, {self._trust_domain: {"keys": keys}})

    def validate(self, token: str, audience: str) -> ValidJwt:
        """Whom a token speaks for, by the authority's keys of now. Raises BadToken."""
        return validate_jwt_svid(token, audience, self.bundles().jwks, self._clock.now())

    def signer(self) -> str:
        """Not told by the door; certificates are made anew in time."""
        return ""


class PodIssuer:
    """Of the authority behind its door for pods, whose client has one identity: that of its token."""

    def __init__(self, client: AttestClient, clock: Clock) -> None:
        self._client = client
        self._clock = clock

    def x509_svid(self, identity: SpiffeId) -> X509Svid:  # noqa: ARG002 - the client refuses another one
        """A certificate for a fresh key. Raises what AttestClient.fetch raises."""
        return _given(self._client.fetch())

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
        """Not told by the door; certificates are made anew in time."""
        return ""


def _given(svid: Svid) -> X509Svid:
    secrets = svid.secrets
    return X509Svid(svid.identity, secrets.chain_pem, secrets.key_pem, secrets.bundle_pem, svid.not_after)
