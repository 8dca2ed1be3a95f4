"""Pieces of Envoy's configuration that gateway and client side share, as plain dicts ready for JSON.

Source: Envoy's v3 API reference; the message of each dict stands in its `@type` or in the name of its function.
"""

from __future__ import annotations

Json = dict[str, object]

_TYPE = "type.googleapis.com/envoy."
ROUTER: Json = {
    "name": "envoy.filters.http.router",
    "typed_config": {
        "@type": f"{_TYPE}extensions.filters.http.router.v3.Router",
        # The gate must see what the client sent, and Spanner what the gate let through: nothing added in between.
        "suppress_envoy_headers": True,
    },
}
# A listener's: one socket for all workers, and connections counted out, since gRPC has few. The port itself is held by
# whoever starts this Envoy (adapters/ports.py): beside that only a socket of the same user that says SO_REUSEPORT may
# listen, so it does. By SOL_SOCKET and SO_REUSEPORT of asm-generic/socket.h, which all Linux that Envoy runs on has.
ONE_SOCKET: Json = {
    "enable_reuse_port": False,
    "connection_balance_config": {"exact_balance": {}},
    "socket_options": [{"level": 1, "name": 15, "int_value": 1, "state": "STATE_PREBIND"}],
}
# Spanner's streams last up to an hour (the client libraries' own deadline); their length is the client's business.
NO_TIMEOUT = "0s"
# New certificates are in use at most this much later; an idle question costs less than a millisecond.
SDS_REFRESH = "1s"
CONNECT_TIMEOUT = "5s"
# Envoy's default of 1024 requests at once would answer UNAVAILABLE where Spanner has room.
REQUESTS_MAX = 100_000


def typed(name: str, **fields: object) -> Json:
    """A typed config: `name` is the message's full name after `envoy.`."""
    return {"@type": _TYPE + name, **fields}


def tcp(host: str, port: int) -> Json:
    """config.core.v3.Address of a TCP port; port 0 lets the kernel choose."""
    return {"socket_address": {"address": host, "port_value": port}}


def pipe(path: str) -> Json:
    """config.core.v3.Address of a Unix-domain socket."""
    return {"pipe": {"path": path}}


def cluster(
    name: str,
    address: Json,
    *,
    http2: bool,
    tls: Json | None = None,
    connections_max: int = REQUESTS_MAX,
    waiting_max: int = REQUESTS_MAX,
) -> Json:
    """config.cluster.v3.Cluster with one endpoint.

    Requests beyond `connections_max` connections wait; those beyond `waiting_max` get 503 with `x-envoy-overloaded`.
    """
    protocol: Json = {"http2_protocol_options": _HTTP2_UPSTREAM} if http2 else {"http_protocol_options": {}}
    # A Unix socket or an IP address is static; a host name is looked up.
    host = address.get("socket_address")
    named = isinstance(host, dict) and not _is_ip(str(host["address"]))
    found: Json = {
        "name": name,
        "type": "LOGICAL_DNS" if named else "STATIC",
        "connect_timeout": CONNECT_TIMEOUT,
        "circuit_breakers": {
            "thresholds": [
                {
                    "max_connections": connections_max,
                    "max_pending_requests": waiting_max,
                    "max_requests": REQUESTS_MAX,
                    # Envoy's default of 3 at once is less than the requests that meet one end of a connection.
                    "max_retries": REQUESTS_MAX,
                }
            ]
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": typed(
                "extensions.upstreams.http.v3.HttpProtocolOptions", explicit_http_config=protocol
            )
        },
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
    }
    if named:
        # Whatever families the host has: each connection takes the address that answers first.
        found["dns_lookup_family"] = "ALL"
    if tls is not None:
        found["transport_socket"] = {"name": "envoy.transport_sockets.tls", "typed_config": tls}
    return found


def sds(secret: str) -> Json:
    """extensions.transport_sockets.tls.v3.SdsSecretConfig: `secret` from the cluster `sds`, by REST."""
    source: Json = {
        "api_type": "REST",
        "transport_api_version": "V3",
        "cluster_names": ["sds"],
        "refresh_delay": SDS_REFRESH,
        "request_timeout": CONNECT_TIMEOUT,
    }
    return {"name": secret, "sds_config": {"resource_api_version": "V3", "api_config_source": source}}


def uri_names(matcher: Json) -> list[Json]:
    """extensions.transport_sockets.tls.v3.SubjectAltNameMatcher for URI names."""
    return [{"san_type": "URI", "matcher": matcher}]


def bootstrap(name: str, admin: str, listener: Json, clusters: list[Json], overload: Json) -> Json:
    """config.bootstrap.v3.Bootstrap."""
    return {
        "node": {"id": name, "cluster": "spangate"},
        # A socket that only the own user can enter: the admin interface can stop Envoy and shows its configuration.
        "admin": {"address": pipe(admin)},
        "static_resources": {"listeners": [listener], "clusters": clusters},
        "overload_manager": overload,
    }


def overload_manager(heap_bytes_max: int, connections_max: int) -> Json:
    """config.overload.v3.OverloadManager: memory and connections have a limit; past it, requests get UNAVAILABLE."""
    return {
        "refresh_interval": "0.25s",
        "resource_monitors": [
            {
                "name": "envoy.resource_monitors.fixed_heap",
                "typed_config": typed(
                    "extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig", max_heap_size_bytes=heap_bytes_max
                ),
            },
            {
                "name": "envoy.resource_monitors.global_downstream_max_connections",
                "typed_config": typed(
                    "extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
                    max_active_downstream_connections=connections_max,
                ),
            },
        ],
        "actions": [
            _action("envoy.overload_actions.shrink_heap", 0.85),
            _action("envoy.overload_actions.stop_accepting_requests", 0.95),
        ],
    }


def _action(name: str, threshold: float) -> Json:
    trigger = {"name": "envoy.resource_monitors.fixed_heap", "threshold": {"value": threshold}}
    return {"name": name, "triggers": [trigger]}


def _is_ip(host: str) -> bool:
    return ":" in host or host.replace(".", "").isdigit()


_HTTP2_UPSTREAM: Json = {
    # Find a dead connection before a request does: an idle one is asked every half minute.
    "connection_keepalive": {"interval": "30s", "timeout": "5s"},
}


def workloads_tls(trust_domain: str, certificate_secret: str, bundle_secret: str, *, turn_away: bool) -> Json:
    """extensions.transport_sockets.tls.v3.DownstreamTlsContext for workloads of `trust_domain`; those of further ones
    come with their roots, from the certificate door.

    With `turn_away`, who is not verified gets no further than the handshake; without, it has to be stopped later.
    """
    names: Json = {"match_typed_subject_alt_names": uri_names({"prefix": f"spiffe://{trust_domain}/"})}
    return typed(
        "extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        require_client_certificate=turn_away,
        disable_stateless_session_resumption=True,
        disable_stateful_session_resumption=True,
        common_tls_context={
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_3"},
            "alpn_protocols": ["h2"],
            "tls_certificate_sds_secret_configs": [sds(certificate_secret)],
            "combined_validation_context": {
                "default_validation_context": (
                    names if turn_away else {"trust_chain_verification": "ACCEPT_UNTRUSTED", **names}
                ),
                "validation_context_sds_secret_config": sds(bundle_secret),
            },
        },
    )
