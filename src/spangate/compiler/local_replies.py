"""What Envoy answers by itself: a refusal with a sentence, or UNAVAILABLE where it cannot serve.

Not here: where they belong (gateway.py), what the filter answers (dataplane/lua/).
"""

from __future__ import annotations

from spangate.compiler.envoy_parts import Json, typed
from spangate.settings import LIMITS, MIB

# Part of Envoy's response code details, which audit/join.py knows.
UNTRUSTED_POLICY = "untrusted"

_TOO_LARGE = (
    f"spangate: the request is too large: Spanner takes at most {LIMITS.request_bytes_max // MIB} MiB, "
    f"a Commit {LIMITS.commit_bytes_max // MIB} MiB"
)
_UNTRUSTED = "spangate: there is no accepted client certificate: Spangate lets in only workloads with an X.509-SVID"
_NOT_VETTED = "spangate: the gateway could not vet this request and refuses it; its log says why"


def reply_mappers(request_seconds_max: int) -> list[Json]:
    """config...LocalReplyConfig.mappers; the first that fits is taken."""
    too_slow = f"spangate: the request did not arrive within {request_seconds_max} seconds; try again"
    return [_reply(413, _TOO_LARGE), _reply(408, too_slow, 503), _untrusted_reply(), _reply(403, _NOT_VETTED)]


def _reply(status: int, message: str, becomes: int = 403) -> Json:
    """A local reply's sentence; for gRPC clients 403 becomes PERMISSION_DENIED, and 503 UNAVAILABLE."""
    return {
        "filter": {
            "status_code_filter": {
                "comparison": {"op": "EQ", "value": {"default_value": status, "runtime_key": "spangate.none"}}
            }
        },
        "status_code": becomes,
        "body_format_override": {"text_format_source": {"inline_string": message}},
    }


def _untrusted_reply() -> Json:
    """The doorkeeper's sentence."""
    details = f"rbac_access_denied_matched_policy[{UNTRUSTED_POLICY}]"
    return {
        "filter": {
            "extension_filter": {
                "name": "envoy.access_loggers.extension_filters.cel",
                "typed_config": typed(
                    "extensions.access_loggers.filters.cel.v3.ExpressionFilter",
                    expression=f"response.code_details == '{details}'",
                ),
            }
        },
        "status_code": 403,
        "body_format_override": {"text_format_source": {"inline_string": _UNTRUSTED}},
    }
