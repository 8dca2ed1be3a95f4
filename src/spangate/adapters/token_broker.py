"""The broker at work: threads that ask Google what broker/cache.py says is next, and hand out what comes.

Rules: no thread waits for somebody else's exchange; whoever waits holds a future, and only so many may. A token is
handed out to nobody but an identity of the policy, and when the policy changes, what it changes is forgotten.
Not here: which exchange is next (broker/cache.py), HTTP (google_http.py), the door (broker_door.py).
"""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from datetime import datetime, timedelta

from spangate.adapters.clock import running_seconds
from spangate.adapters.google_http import ClientCertificate, Google
from spangate.adapters.svid_client import SvidClient
from spangate.authority.jwt_reader import BadToken, read_token
from spangate.broker.answers import Grant
from spangate.broker.cache import IN_FLIGHT_MAX, Held, Refused, TokenCache
from spangate.broker.exchange import SubjectToken, certificate_chain_token
from spangate.broker.token import AccessToken
from spangate.errors import Broken, PeersFault, SpangateError, TryAgain, YourFault
from spangate.model.google import GoogleFederation, SubjectTokenType
from spangate.model.identity import SpiffeId

# An exchange and an impersonation in a bad moment; whoever waits longer is told to try again.
WAIT_SECONDS_MAX = 10.0
# Futures are small; a storm of ten thousand may wait, a flood may not.
WAITING_MAX = 16_384
# A federated token lives no longer than the token that it was exchanged for. This one is shown to Google alone, at
# once; with the authority's usual five minutes, everybody's token would have to be renewed every other minute.
SUBJECT_TOKEN_SECONDS = 3600
# Names the holder of a certificate for one exchange; never met twice.
_HOLDER_BYTES = 16
# An authority that dies in the middle of a goodbye is followed by one that answers: its socket stays open.
_GOODBYES_MAX = 2
# How often tokens that are due are looked for; they have minutes left.
TEND_SECONDS = 1.0
# How often the queue is looked at while the rate holds it back: a fiftieth of a second is one exchange.
TURN_SECONDS = 0.02

Exchange = Callable[[SpiffeId, GoogleFederation], Grant]


class UnknownIdentity(YourFault):
    """The policy does not name the identity, or has no `google`."""

    def __init__(self, identity: SpiffeId) -> None:
        super().__init__(
            f"`{identity}` gets no token: the intent does not name it, or has no `google`",
            help="name it under `identities`",
        )


class TokenBroker:
    """See above. `start` before use, `stop` after it; any thread may ask."""

    def __init__(
        self,
        exchange: Exchange,
        *,
        now: Callable[[], datetime],
        random: Callable[[], float],
        seconds: Callable[[], float] = running_seconds,
    ) -> None:
        self._exchange = exchange
        self._now = now
        self._seconds = seconds
        self._cache = TokenCache(random)
        self._changed = threading.Condition()
        self._federations: Mapping[SpiffeId, GoogleFederation] = {}
        self._waiting: dict[SpiffeId, list[Future[AccessToken]]] = {}
        self._waiting_count = 0
        self._stopping = False
        self._pool = ThreadPoolExecutor(IN_FLIGHT_MAX, thread_name_prefix="spangate-exchange")
        self._thread = threading.Thread(target=self._run, name="spangate-tokens", daemon=True)

    def start(self) -> None:
        """Exchanges begin from now on."""
        self._thread.start()

    def stop(self) -> None:
        """No exchange begins any more, and nobody waits. What is under way ends by its own deadline."""
        with self._changed:
            self._stopping = True
            waiting = [future for futures in self._waiting.values() for future in futures]
            self._waiting.clear()
            self._changed.notify_all()
        for future in waiting:
            _settle(future, TryAgain("the broker ends"))
        self._thread.join()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def replace(self, federations: Mapping[SpiffeId, GoogleFederation]) -> None:
        """The policy of now: how each identity gets its tokens."""
        with self._changed:
            changed = [one for one in self._cache.identities() if self._federations.get(one) != federations.get(one)]
            self._federations = federations
            self._cache.forget(changed)
            gone = [(one, future) for one in changed if one not in federations for future in self._take(one)]
            self._changed.notify_all()
        for identity, future in gone:
            _settle(future, UnknownIdentity(identity))

    def knows(self, identity: SpiffeId) -> bool:
        """Whether the policy of now lets `identity` ask."""
        return identity in self._federations

    def request(self, identity: SpiffeId) -> Future[AccessToken]:
        """A token, or the error in its place. Returns at once."""
        future: Future[AccessToken] = Future()
        with self._changed:
            result = self._ask(identity, future)
        if result is not None:
            _settle(future, result)
        return future

    def token(self, identity: SpiffeId) -> AccessToken:
        """See TokenSource. Waits up to WAIT_SECONDS_MAX."""
        future = self.request(identity)
        try:
            return future.result(WAIT_SECONDS_MAX)
        except FutureTimeoutError:
            future.cancel()
            raise too_slow() from None

    def _ask(self, identity: SpiffeId, future: Future[AccessToken]) -> AccessToken | SpangateError | None:
        """What `identity` gets at once; None if `future` waits now."""
        if identity not in self._federations:
            return UnknownIdentity(identity)
        if self._stopping:
            return TryAgain("the broker ends")
        answer = self._cache.ask(identity, self._seconds())
        if isinstance(answer, Held):
            if self._cache.queued:
                self._changed.notify_all()
            return self._access_token(answer)
        if isinstance(answer, Refused):
            return answer.error
        if self._waiting_count >= WAITING_MAX:
            return TryAgain("too many wait for tokens")
        self._waiting.setdefault(identity, []).append(future)
        self._waiting_count += 1
        self._changed.notify_all()
        return None

    def _run(self) -> None:
        tended = 0.0
        while True:
            with self._changed:
                if self._stopping:
                    return
                now = self._seconds()
                if now >= tended + TEND_SECONDS:
                    self._cache.tend(now)
                    tended = now
                for identity in self._cache.begin(now):
                    federation = self._federations.get(identity)
                    self._pool.submit(self._one, identity, federation)
                self._changed.wait(TURN_SECONDS if self._cache.queued else TEND_SECONDS)

    def _one(self, identity: SpiffeId, federation: GoogleFederation | None) -> None:
        """One exchange, from beginning to end."""
        grant: Grant | None = None
        error: SpangateError = UnknownIdentity(identity)
        if federation is not None:
            try:
                grant = self._exchange(identity, federation)
            except SpangateError as caught:
                error = caught
            # Whatever happens, its end must be told, or the identity would wait for ever. The text may hold anything.
            except Exception as caught:  # noqa: BLE001
                error = Broken(f"the exchange failed: {type(caught).__name__}")
        with self._changed:
            now = self._seconds()
            if grant is not None:
                held = self._cache.granted(identity, grant, now)
                result = None if held is None else self._access_token(held)
                settled: AccessToken | SpangateError | None = result
            else:
                refused = self._cache.failed(identity, error, now)
                settled = None if refused is None else error
            futures = [] if settled is None else self._take(identity)
            self._changed.notify_all()
        for future in futures:
            _settle(future, settled)

    def _take(self, identity: SpiffeId) -> list[Future[AccessToken]]:
        futures = self._waiting.pop(identity, [])
        self._waiting_count -= len(futures)
        return futures

    def _access_token(self, held: Held) -> AccessToken:
        left = timedelta(seconds=held.ends - self._seconds())
        return AccessToken(held.text, held.identity, self._now() + left)


def too_slow() -> TryAgain:
    """The error for who has waited long enough."""
    return TryAgain(f"no token came within {WAIT_SECONDS_MAX:.0f} s", help="Google is slow, or too many ask at once")


def exchange_with(google: Google, authority: SvidClient) -> Exchange:
    """Exchanges what the authority says of an identity for Google's token, and that for a service account's."""

    def exchange(identity: SpiffeId, federation: GoogleFederation) -> Grant:
        with _held_for_an_exchange(authority, federation.subject_token) as holder:
            grant = google.exchange(federation, *_subject(authority, identity, federation, holder))
        return grant if federation.impersonation is None else google.impersonate(federation, grant)

    return exchange


@contextlib.contextmanager
def _held_for_an_exchange(authority: SvidClient, kind: SubjectTokenType) -> Iterator[str]:
    """A name under which a certificate is asked for, and given up afterwards: no rotation of roots waits for it."""
    holder = f"broker-{secrets.token_hex(_HOLDER_BYTES)}"
    try:
        yield holder
    finally:
        if kind is SubjectTokenType.MTLS:
            _say_goodbye(authority, holder)


def _say_goodbye(authority: SvidClient, holder: str) -> None:
    """Or leave it: then the certificate counts until it, or this process, has ended."""
    for _ in range(_GOODBYES_MAX):
        try:
            authority.ask("POST", "/gone", {"instance": holder})
        except TryAgain:
            continue
        except SpangateError:
            pass
        return


def _subject(
    authority: SvidClient, identity: SpiffeId, federation: GoogleFederation, holder: str
) -> tuple[SubjectToken, ClientCertificate | None]:
    """What `identity` is known to Google by: made for this exchange, for exactly this identity."""
    kind = federation.subject_token
    if kind is not SubjectTokenType.MTLS:
        # Impersonation has a lifetime of its own; the token on the way to it is used once.
        seconds = None if federation.impersonation else SUBJECT_TOKEN_SECONDS
        token, _ = authority.token(identity, [federation.token_audience], seconds)
        _check_subject(token, identity, federation)
        return SubjectToken(kind, token), None
    svid = authority.fetch(identity, holder)
    certificate = ClientCertificate(svid.secrets.chain_pem, svid.secrets.key_pem)
    return certificate_chain_token(svid.chain_der), certificate


def _check_subject(token: str, identity: SpiffeId, federation: GoogleFederation) -> None:
    """Raises PeersFault if the authority signed something else than was asked: Google would believe it."""
    try:
        claims = read_token(token).claims
    except BadToken as error:
        raise PeersFault(f"the authority answered with a token that cannot be read: {error}") from error
    if claims.get("sub") != str(identity) or claims.get("aud") != federation.token_audience:
        raise PeersFault("the authority answered with a token for another identity or audience")


def _settle(future: Future[AccessToken], result: AccessToken | SpangateError | None) -> None:
    """Ends the wait, unless whoever waited has gone."""
    if result is None or not future.set_running_or_notify_cancel():
        return
    if isinstance(result, AccessToken):
        future.set_result(result)
    else:
        future.set_exception(result)
