"""Envoy configurations of the bench: the backend, the client's sidecar, and a plain gateway to compare with.

Rules: loopback only, one worker each (what is measured is the cost of one core), no access log in the plain ones.
Not here: the gateway that is measured; its configuration is the product's own (bench/gateway/filtered.py).
"""

from __future__ import annotations

from typing import Any

from bench.gateway.identities import Identity

Json = dict[str, Any]

_ENVOY = "type.googleapis.com/envoy"
# Spanner's sidecars keep few connections with many streams; more than the load ever has in flight.
STREAMS_MAX = 1000


def _typed(kind: str, **fields: object) -> Json:
    return {"@type": f"{_ENVOY}.{kind}", **fields}


def _http2(**fields: object) -> Json:
    return _typed(
        "extensions.upstreams.http.v3.HttpProtocolOptions", explicit_http_config={"http2_protocol_options": fields}
    )


def _address(port: int) -> Json:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _listener(name: str, port: int, route: Json, filters: list[Json], tls: Json | None = None) -> Json:
    manager = _typed(
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix=name,
        codec_type="HTTP2",
        http2_protocol_options={"max_concurrent_streams": STREAMS_MAX},
        generate_request_id=False,
        route_config={
            "virtual_hosts": [{"name": name, "domains": ["*"], "routes": [{"match": {"prefix": "/"}, **route}]}]
        },
        http_filters=[
            *filters,
            {"name": "router", "typed_config": _typed("extensions.filters.http.router.v3.Router")},
        ],
    )
    chain: Json = {"filters": [{"name": "hcm", "typed_config": manager}]}
    if tls is not None:
        chain["transport_socket"] = tls
    return {"name": name, "address": _address(port), "filter_chains": [chain]}


def _cluster(name: str, port: int, tls: Json | None = None) -> Json:
    cluster: Json = {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "2s",
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": _http2()},
        # The default of 1024 pending requests is below what a closed loop of h2load may have in flight.
        "circuit_breakers": {"thresholds": [{"max_requests": 100_000, "max_pending_requests": 100_000}]},
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(port)}}]}],
        },
    }
    if tls is not None:
        cluster["transport_socket"] = tls
    return cluster


def _bootstrap(listeners: list[Json], clusters: list[Json], admin_port: int) -> Json:
    return {
        "admin": {"address": _address(admin_port)},
        "static_resources": {"listeners": listeners, "clusters": clusters},
    }


def _common_tls(own: Identity) -> Json:
    return {
        "alpn_protocols": ["h2"],
        # A client's default maximum is TLS 1.2.
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
        "tls_certificates": [
            {"certificate_chain": {"filename": str(own.chain)}, "private_key": {"filename": str(own.key)}}
        ],
        "validation_context": {"trusted_ca": {"filename": str(own.bundle)}},
    }


def _route(cluster: str) -> Json:
    return {"route": {"cluster": cluster, "timeout": "0s"}}


def backend(port: int, admin_port: int) -> Json:
    """Answers every request by itself, as soon as it has read all of it: 200, gRPC status OK, an empty message."""
    buffer = {
        "name": "buffer",
        "typed_config": _typed("extensions.filters.http.buffer.v3.Buffer", max_request_bytes=1024 * 1024),
    }
    answer = {
        "direct_response": {"status": 200},
        "response_headers_to_add": [
            {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
            for key, value in (("content-type", "application/grpc"), ("grpc-status", "0"))
        ],
    }
    return _bootstrap([_listener("backend", port, answer, [buffer])], [], admin_port)


def plain_gateway(port: int, backend_port: int, admin_port: int, own: Identity) -> Json:
    """Verifies the client's certificate, and passes everything on."""
    tls = {
        "name": "tls",
        "typed_config": _typed(
            "extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            require_client_certificate=True,
            common_tls_context=_common_tls(own),
        ),
    }
    listener = _listener("plain", port, _route("backend"), [], tls)
    return _bootstrap([listener], [_cluster("backend", backend_port)], admin_port)


def sidecar(ways: dict[int, int], admin_port: int, own: Identity) -> Json:
    """The client's side: plaintext on each key of `ways`, mutual TLS with one identity to the gateway at its value."""
    tls = {
        "name": "tls",
        "typed_config": _typed(
            "extensions.transport_sockets.tls.v3.UpstreamTlsContext", common_tls_context=_common_tls(own)
        ),
    }
    listeners = [_listener(f"way-{port}", port, _route(f"gateway-{port}"), []) for port in ways]
    clusters = [_cluster(f"gateway-{port}", gateway, tls) for port, gateway in ways.items()]
    return _bootstrap(listeners, clusters, admin_port)
