"""The Envoy beside an application: plaintext on loopback in, mutual TLS with the workload's SVID out.

Rules: the gateway's certificate must carry exactly the gateway's SPIFFE ID; the application's bytes pass untouched;
a request is tried again only if the gateway has certainly not seen it.
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
    sds,
    tcp,
    typed,
    uri_names,
)
from spangate.settings import MIB

LISTENER = "application"
GATEWAY_CLUSTER = "gateway"
HEAP_BYTES_MAX = 512 * MIB
CONNECTIONS_MAX = 1000
# A gateway that has died is back within half a second, its port refuses connections meanwhile. These attempts last
# some 4 s on average, which is also enough for its third start in a row.
ATTEMPTS_MAX = 20
ATTEMPT_PAUSE = "0.05s"
ATTEMPT_PAUSE_MAX = "0.5s"
# config.route.v3.RetryPolicy. Only requests of which the gateway has certainly seen nothing: there was no connection,
# the peer says that it has not looked at the stream, or nothing had been sent. Whatever may have been executed is the
# client's to try again, since only the client knows whether that is safe.
_AGAIN: Json = {
    "retry_on": "connect-failure,refused-stream,reset-before-request",
    "num_retries": ATTEMPTS_MAX,
    "retry_back_off": {"base_interval": ATTEMPT_PAUSE, "max_interval": ATTEMPT_PAUSE_MAX},
}


@dataclass(frozen=True, slots=True)
class ClientPlan:
    """What the client side of one workload needs. `gateway` is host and port; port 0 of the listener is chosen."""

    gateway: tuple[str, int]
    gateway_identity: str
    host: str
    port: int
    admin_socket: str
    sds_socket: str
    certificate_secret: str
    bundle_secret: str


def client_bootstrap(plan: ClientPlan) -> Json:
    """config.bootstrap.v3.Bootstrap of the client side."""
    tls = typed(
        "extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        max_session_keys=0,
        common_tls_context={
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
            "alpn_protocols": ["h2"],
            "tls_certificate_sds_secret_configs": [sds(plan.certificate_secret)],
            "combined_validation_context": {
                "default_validation_context": {
                    "match_typed_subject_alt_names": uri_names({"exact": plan.gateway_identity})
                },
                "validation_context_sds_secret_config": sds(plan.bundle_secret),
            },
        },
    )
    manager = typed(
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="application",
        codec_type="HTTP2",
        stream_idle_timeout=NO_TIMEOUT,
        server_header_transformation="PASS_THROUGH",
        route_config={
            "name": "gateway",
            "virtual_hosts": [
                {
                    "name": "gateway",
                    "domains": ["*"],
                    "routes": [
                        {
                            "match": {"prefix": "/"},
                            "route": {
                                "cluster": GATEWAY_CLUSTER,
                                "timeout": NO_TIMEOUT,
                                "retry_policy": _AGAIN,
                                "max_stream_duration": {"grpc_timeout_header_max": NO_TIMEOUT},
                            },
                        }
                    ],
                }
            ],
        },
        http_filters=[ROUTER],
    )
    return bootstrap(
        "spangate-client",
        plan.admin_socket,
        {
            "name": LISTENER,
            "address": tcp(plan.host, plan.port),
            **ONE_SOCKET,
            "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
        },
        [
            cluster(GATEWAY_CLUSTER, tcp(*plan.gateway), http2=True, tls=tls),
            cluster("sds", pipe(plan.sds_socket), http2=False),
        ],
        overload_manager(HEAP_BYTES_MAX, CONNECTIONS_MAX),
    )
