"""The gateway's Envoy configuration: mutual TLS in, the filter, the guard behind it, Spanner out.

Rules:
- Two locks. The filter marks what may pass; the RBAC guard behind it passes only what is marked AND comes over a
  connection whose certificate Envoy itself has verified, for the trust domain of its name. Either failing refuses.
- Peers without an accepted certificate get as far as the filter, so that they are told why in a gRPC status instead
  of a broken connection (docs/decisions/0003). TLS sessions are not resumed: a resumed one is not verified again.
- What Envoy answers by itself is a refusal with a sentence (PERMISSION_DENIED), or UNAVAILABLE where it cannot serve.
Not here: the sentences of refusals (local_replies.py), the filter (dataplane/lua/), who may do what (the checkpoint).
"""

from __future__ import annotations

from dataclasses import dataclass

from spangate.compiler.envoy_parts import (
    NO_TIMEOUT,
    ONE_SOCKET,
    ROUTER,
    Json,
    bootstrap,
    cluster,
    overload_manager,
    pipe,
    tcp,
    typed,
    workloads_tls,
)
from spangate.compiler.local_replies import UNTRUSTED_POLICY, reply_mappers
from spangate.settings import LIMITS, MIB

CHECKPOINT_CLUSTER = "spangate_checkpoint"
# The same socket: the question for the epoch, which known requests wait for, never queues behind new statements.
EPOCH_CLUSTER = "spangate_epoch"
BROKER_CLUSTER = "spangate_broker"
SPANNER_CLUSTER = "spanner"
LISTENER = "gateway"

_DOORKEEPER = "spangate.doorkeeper"
# Beside the message, a body holds five bytes of gRPC framing. Envoy compares buffers in steps, so it gets a little
# room; the filter draws the line exactly.
_BODY_SLACK_BYTES = 64 * 1024
# HTTP/1.1 carries one question a connection. After a pause all questions of a burst come at once: they wait here, since
# the checkpoint's door turns away what is more than its own limit (unix_server.py, REQUESTS_MAX).
CHECKPOINT_CONNECTIONS_MAX = 64
# A burst of known requests after a pause fits in; of a storm of new statements, of which some hundred are analysed in a
# second, more would wait the filter's five seconds in vain. They are told at once to try again.
CHECKPOINT_WAITING_MAX = 1024
# One question at a time and worker, but at the start.
EPOCH_CONNECTIONS_MAX = 4
# Each is answered in a millisecond, or waits for Google; what waits longer than the filter does waits in vain.
BROKER_CONNECTIONS_MAX = 64
BROKER_WAITING_MAX = 1024
# Some six commits of the largest size at once; past it, requests wait or get UNAVAILABLE.
HEAP_BYTES_MAX = 1024 * MIB
CONNECTIONS_MAX = 10_000
# The filter refuses a certificate that has ended also on an open connection. Whoever renews in time must not meet that:
# a certificate of one hour is replaced after at most 36 minutes, so a connection begins with 24 minutes left or more.
CONNECTION_SECONDS_MAX = 20 * 60
STREAMS_PER_CONNECTION_MAX = 1024
# A request is held until its last byte is there: who never sends it would keep the memory for ever, and some thirty
# connections of such streams are all there is. 100 MiB in this time are 3 Mbit/s.
REQUEST_SECONDS_MAX = 300
# Credentials of the client never reach Spanner: the identity is the workload's, by certificate. Nor does its choice of
# the project that pays. They go before the filter runs, which sets the `authorization` of the identity's own token.
_HEADERS_REMOVED = [
    "authorization",
    "x-goog-api-key",
    "x-goog-iam-authorization-token",
    "x-goog-iam-authority-selector",
    "x-goog-user-project",
]
# Words of a client to Envoy itself: timeouts, retries, other destinations, forced traces.
_STEERING_PREFIX = "x-envoy-"


@dataclass(frozen=True, slots=True)
class GatewayPlan:
    """What the gateway of one installation needs. Port 0 lets the kernel choose; `spanner` is host and port.

    With `spanner_ca`, a file of certificate authorities, Spanner is spoken to over TLS and must prove that it is that
    host; without, by plain HTTP/2, as the emulator wants it.
    """

    trust_domain: str
    host: str
    port: int
    spanner: tuple[str, int]
    filter_file: str
    access_log: str
    admin_socket: str
    sds_socket: str
    checkpoint_socket: str
    certificate_secret: str
    bundle_secret: str
    # Where the filter asks for access tokens; empty where requests go on without.
    broker_socket: str = ""
    spanner_ca: str = ""


def gateway_bootstrap(plan: GatewayPlan) -> Json:
    """config.bootstrap.v3.Bootstrap of the gateway."""
    brokers = [_broker(plan.broker_socket)] if plan.broker_socket else []
    return bootstrap(
        "spangate-gateway",
        plan.admin_socket,
        {
            "name": LISTENER,
            "address": tcp(plan.host, plan.port),
            **ONE_SOCKET,
            "filter_chains": [
                {
                    "transport_socket": {
                        "name": "envoy.transport_sockets.tls",
                        # Whoever has no certificate, or a bad one, is told so by the filter and stopped by the guard.
                        "typed_config": workloads_tls(
                            plan.trust_domain, plan.certificate_secret, plan.bundle_secret, turn_away=False
                        ),
                    },
                    "filters": [{"name": "http", "typed_config": _connection_manager(plan)}],
                }
            ],
        },
        [
            cluster(SPANNER_CLUSTER, tcp(*plan.spanner), http2=True, tls=_spanner_tls(plan)),
            cluster(
                CHECKPOINT_CLUSTER,
                pipe(plan.checkpoint_socket),
                http2=False,
                connections_max=CHECKPOINT_CONNECTIONS_MAX,
                waiting_max=CHECKPOINT_WAITING_MAX,
            ),
            cluster(EPOCH_CLUSTER, pipe(plan.checkpoint_socket), http2=False, connections_max=EPOCH_CONNECTIONS_MAX),
            *brokers,
            cluster("sds", pipe(plan.sds_socket), http2=False),
        ],
        overload_manager(HEAP_BYTES_MAX, CONNECTIONS_MAX),
    )


def _spanner_tls(plan: GatewayPlan) -> Json | None:
    """The host is who it says: a certificate of that name by an authority that is trusted. None without TLS."""
    if not plan.spanner_ca:
        return None
    return typed(
        "extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        sni=plan.spanner[0],
        common_tls_context={
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
            "alpn_protocols": ["h2"],
            "validation_context": {
                "trusted_ca": {"filename": plan.spanner_ca},
                "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": plan.spanner[0]}}],
            },
        },
    )


def _broker(socket: str) -> Json:
    return cluster(
        BROKER_CLUSTER,
        pipe(socket),
        http2=False,
        connections_max=BROKER_CONNECTIONS_MAX,
        waiting_max=BROKER_WAITING_MAX,
    )


def _connection_manager(plan: GatewayPlan) -> Json:
    return typed(
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="gateway",
        codec_type="HTTP2",
        http2_protocol_options={
            # Envoy buffers a body up to its stream's window: this is the limit on every body but a Commit's.
            "initial_stream_window_size": LIMITS.request_bytes_max + _BODY_SLACK_BYTES,
            "initial_connection_window_size": 4 * LIMITS.request_bytes_max,
            "max_concurrent_streams": STREAMS_PER_CONNECTION_MAX,
        },
        # The client is told to open another one; streams that are open go on to their end.
        common_http_protocol_options={"max_connection_duration": f"{CONNECTION_SECONDS_MAX}s"},
        stream_idle_timeout=NO_TIMEOUT,
        request_headers_timeout="10s",
        # Of the request alone: answers stream for as long as they like.
        request_timeout=f"{REQUEST_SECONDS_MAX}s",
        early_header_mutation_extensions=[_without_steering_and_credentials()],
        server_header_transformation="PASS_THROUGH",
        access_log=[_access_log(plan.access_log)],
        local_reply_config={"mappers": reply_mappers(REQUEST_SECONDS_MAX)},
        route_config={
            "name": "spanner",
            "virtual_hosts": [{"name": "spanner", "domains": ["*"], "routes": [_commit_route(plan), _route(plan)]}],
        },
        http_filters=[_doorkeeper(), _buffer(), _filter(plan), _guard(), ROUTER],
    )


def _without_steering_and_credentials() -> Json:
    """Before anything in Envoy reads them."""
    removals: list[Json] = [{"remove_on_match": {"key_matcher": {"prefix": _STEERING_PREFIX}}}]
    removals += [{"remove": name} for name in _HEADERS_REMOVED]
    return {
        "name": "envoy.http.early_header_mutation.header_mutation",
        "typed_config": typed(
            "extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation", mutations=removals
        ),
    }


def _route(plan: GatewayPlan) -> Json:
    return {"match": {"prefix": "/"}, "route": _to_spanner(plan)}


def _commit_route(plan: GatewayPlan) -> Json:
    """Commits may be larger than a stream's window, so theirs are collected by the buffer filter."""
    limit = LIMITS.commit_bytes_max + _BODY_SLACK_BYTES
    return {
        "match": {"path": "/google.spanner.v1.Spanner/Commit"},
        "route": _to_spanner(plan),
        "typed_per_filter_config": {
            _DOORKEEPER: typed("extensions.filters.http.rbac.v3.RBACPerRoute", rbac={"rules": _only_verified()}),
            "envoy.filters.http.buffer": typed(
                "extensions.filters.http.buffer.v3.BufferPerRoute", buffer={"max_request_bytes": limit}
            ),
        },
    }


def _to_spanner(plan: GatewayPlan) -> Json:
    return {
        "cluster": SPANNER_CLUSTER,
        # The client's own authority is the gateway's address, or whatever it likes.
        "host_rewrite_literal": plan.spanner[0],
        "timeout": NO_TIMEOUT,
        # The client's own deadline (grpc-timeout) ends its stream.
        "max_stream_duration": {"grpc_timeout_header_max": NO_TIMEOUT},
    }


def _doorkeeper() -> Json:
    """Where bodies are collected before the filter runs, a peer without an accepted certificate is stopped first."""
    return {
        "name": _DOORKEEPER,
        "disabled": True,  # but on the route of Commit
        "typed_config": typed("extensions.filters.http.rbac.v3.RBAC", rules=_only_verified()),
    }


def _only_verified() -> Json:
    """config.rbac.v3.RBAC: denies by a policy whose name Envoy's response code details then hold."""
    policy: Json = {"permissions": [{"any": True}], "principals": [{"not_id": _verified()}]}
    return {"action": "DENY", "policies": {UNTRUSTED_POLICY: policy}}


def _buffer() -> Json:
    return {
        "name": "envoy.filters.http.buffer",
        "disabled": True,  # but on the route of Commit
        "typed_config": typed(
            "extensions.filters.http.buffer.v3.Buffer", max_request_bytes=LIMITS.request_bytes_max + _BODY_SLACK_BYTES
        ),
    }


def _filter(plan: GatewayPlan) -> Json:
    return {
        "name": "envoy.filters.http.lua",
        "typed_config": typed(
            "extensions.filters.http.lua.v3.Lua",
            default_source_code={"filename": plan.filter_file},
            clear_route_cache=False,
        ),
    }


def _guard() -> Json:
    marked: Json = {
        "sourced_metadata": {
            "metadata_matcher": {
                "filter": "spangate",
                "path": [{"key": "allow"}],
                "value": {"present_match": True},
            }
        }
    }
    return {
        "name": "envoy.filters.http.rbac",
        "typed_config": typed(
            "extensions.filters.http.rbac.v3.RBAC",
            rules={
                "action": "ALLOW",
                "policies": {"marked": {"permissions": [marked], "principals": [_verified()]}},
            },
        ),
    }


def _verified() -> Json:
    """config.rbac.v3.Principal: Envoy itself has verified the certificate, and it names a workload.

    Verified means: by roots that may sign that name, and for a trust domain that is known (docs/decisions/0029). These
    change while the gateway runs, so they are not written down here a second time.
    """
    return {
        "custom": {
            "name": "envoy.rbac.principals.mtls_authenticated",
            "typed_config": typed(
                "extensions.rbac.principals.mtls_authenticated.v3.Config",
                san_matcher={"san_type": "URI", "matcher": {"prefix": "spiffe://"}},
            ),
        }
    }


def _access_log(path: str) -> Json:
    """One JSON line a request; audit/line.py reads it."""
    # The names of its fields are those of spangate/audit/line.py.
    return {
        "name": "envoy.access_loggers.file",
        "typed_config": typed(
            "extensions.access_loggers.file.v3.FileAccessLog",
            path=path,
            log_format={
                "json_format": {
                    "time": "%START_TIME(%Y-%m-%dT%H:%M:%S.%6fZ)%",
                    "identity": "%DOWNSTREAM_PEER_URI_SAN%",
                    "path": "%REQ(:PATH):256%",
                    "allow": "%DYNAMIC_METADATA(spangate:allow)%",
                    "deny": "%DYNAMIC_METADATA(spangate:deny)%",
                    "detail": "%DYNAMIC_METADATA(spangate:detail)%",
                    "grpc_status": "%GRPC_STATUS_NUMBER%",
                    "commit": "%DYNAMIC_METADATA(spangate:commit)%",
                    "total_us": "%COMMON_DURATION(DS_RX_BEG:DS_TX_END:us)%",
                    "gateway_us": "%COMMON_DURATION(DS_RX_BEG:US_TX_BEG:us)%",
                    "spanner_us": "%COMMON_DURATION(US_TX_BEG:US_RX_END:us)%",
                    "request_id": "%REQ(X-REQUEST-ID)%",
                    "response_flags": "%RESPONSE_FLAGS%",
                    "response_code_details": "%RESPONSE_CODE_DETAILS%",
                }
            },
        ),
    }
