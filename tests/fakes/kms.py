"""A server that is to its client what Cloud KMS is, as far as keys that sign go: over gRPC, with real P-256 keys.

It refuses what KMS's reference says is refused (ids, purposes, states, digests, checksums) and answers with checksums.
What it cannot do is to be KMS: permissions, quotas and hardware are not in it.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import google_crc32c
import grpc
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from google.cloud import kms_v1
from google.cloud.kms_v1.services.key_management_service.transports import KeyManagementServiceGrpcTransport
from google.protobuf import timestamp_pb2

RING = "projects/shop-1/locations/europe-west1/keyRings/authority"
_SERVICE = "google.cloud.kms.v1.KeyManagementService"
_ID = re.compile(r"[a-zA-Z0-9_-]{1,63}", re.ASCII)
_VERSION = re.compile(r"(.+/cryptoKeys/[^/]+)/cryptoKeyVersions/1")
_PURPOSES = kms_v1.CryptoKey.CryptoKeyPurpose
_ALGORITHMS = kms_v1.CryptoKeyVersion.CryptoKeyVersionAlgorithm
State = kms_v1.CryptoKeyVersion.CryptoKeyVersionState


class Refused(Exception):
    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


@dataclass
class Kept:
    key: kms_v1.CryptoKey
    private: ec.EllipticCurvePrivateKey
    state: Any = State.PENDING_GENERATION
    import_job: str = ""


@dataclass
class KmsServer:
    """`faults`: what the next calls are answered instead, by method; `damage`: what is done to answers."""

    rings: set[str] = field(default_factory=lambda: {RING})
    # How often a new key is asked for until it is ready.
    polls: int = 2
    page: int = 3
    keys: dict[str, Kept] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    faults: dict[str, list[grpc.StatusCode]] = field(default_factory=dict)
    damage: dict[str, Callable[[Any], None]] = field(default_factory=dict)
    lock: Any = field(default_factory=threading.Lock)

    def create_crypto_key(self, request: kms_v1.CreateCryptoKeyRequest) -> kms_v1.CryptoKey:
        if request.parent not in self.rings:
            raise Refused(grpc.StatusCode.NOT_FOUND, f"KeyRing {request.parent} not found.")
        if not _ID.fullmatch(request.crypto_key_id):
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, "crypto_key_id must match [a-zA-Z0-9_-]{1,63}")
        key, template = request.crypto_key, request.crypto_key.version_template
        if key.purpose != _PURPOSES.ASYMMETRIC_SIGN or template.algorithm != _ALGORITHMS.EC_SIGN_P256_SHA256:
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, "purpose and algorithm do not go together")
        if template.protection_level not in (kms_v1.ProtectionLevel.HSM, kms_v1.ProtectionLevel.SOFTWARE):
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, "protection level")
        name = f"{request.parent}/cryptoKeys/{request.crypto_key_id}"
        if name in self.keys:
            raise Refused(grpc.StatusCode.ALREADY_EXISTS, f"CryptoKey {name} already exists.")
        key.name = name
        self.keys[name] = Kept(key, ec.generate_private_key(ec.SECP256R1()))
        return key

    def get_crypto_key_version(self, request: kms_v1.GetCryptoKeyVersionRequest) -> kms_v1.CryptoKeyVersion:
        kept = self._kept(request.name)
        if kept.state == State.PENDING_GENERATION:
            self.polls -= 1
            if self.polls < 0:
                kept.state = State.ENABLED
        return self._version(request.name, kept)

    def list_crypto_keys(self, request: kms_v1.ListCryptoKeysRequest) -> kms_v1.ListCryptoKeysResponse:
        if request.parent not in self.rings:
            raise Refused(grpc.StatusCode.NOT_FOUND, f"KeyRing {request.parent} not found.")
        names = sorted(name for name in self.keys if name.startswith(f"{request.parent}/"))
        begin = int(request.page_token or 0)
        end = begin + min(self.page, request.page_size or 100)
        return kms_v1.ListCryptoKeysResponse(
            crypto_keys=[self.keys[name].key for name in names[begin:end]],
            next_page_token=str(end) if end < len(names) else "",
            total_size=len(names),
        )

    def get_public_key(self, request: kms_v1.GetPublicKeyRequest) -> kms_v1.PublicKey:
        kept = self._usable(request.name)
        pem = kept.private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return kms_v1.PublicKey(
            name=request.name, pem=pem.decode(), pem_crc32c=google_crc32c.value(pem), algorithm=_algorithm(kept)
        )

    def asymmetric_sign(self, request: kms_v1.AsymmetricSignRequest) -> kms_v1.AsymmetricSignResponse:
        kept = self._usable(request.name)
        digest = bytes(request.digest.sha256)
        if len(digest) != 32 or request.data:
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, "the digest is not the algorithm's")
        sent = "digest_crc32c" in request
        if sent and int(request.digest_crc32c) != google_crc32c.value(digest):
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, "The checksum in field digest_crc32c did not match.")
        signature = kept.private.sign(digest, ec.ECDSA(utils.Prehashed(hashes.SHA256())))
        return kms_v1.AsymmetricSignResponse(
            name=request.name,
            signature=signature,
            signature_crc32c=google_crc32c.value(signature),
            verified_digest_crc32c=sent,
        )

    def destroy_crypto_key_version(self, request: kms_v1.DestroyCryptoKeyVersionRequest) -> kms_v1.CryptoKeyVersion:
        kept = self._kept(request.name)
        if kept.state not in (State.ENABLED, State.DISABLED):
            raise Refused(grpc.StatusCode.FAILED_PRECONDITION, f"{request.name} is {kept.state.name}")
        kept.state = State.DESTROY_SCHEDULED
        return self._version(request.name, kept)

    def _kept(self, version: str) -> Kept:
        match = _VERSION.fullmatch(version)
        kept = self.keys.get(match[1]) if match else None
        if kept is None:
            raise Refused(grpc.StatusCode.NOT_FOUND, f"{version} not found.")
        return kept

    def _usable(self, version: str) -> Kept:
        kept = self._kept(version)
        if kept.state != State.ENABLED:
            raise Refused(grpc.StatusCode.FAILED_PRECONDITION, f"{version} is not enabled: {kept.state.name}")
        return kept

    def _version(self, name: str, kept: Kept) -> kms_v1.CryptoKeyVersion:
        version = kms_v1.CryptoKeyVersion(
            name=name,
            state=kept.state,
            algorithm=_algorithm(kept),
            protection_level=kept.key.version_template.protection_level,
            import_job=kept.import_job,
        )
        if kept.state == State.DESTROY_SCHEDULED:
            version.destroy_time = timestamp_pb2.Timestamp(seconds=2_000_000_000)
        return version

    def answer(self, method: str, request: Any, context: grpc.ServicerContext) -> Any:
        """One call, one at a time."""
        with self.lock:
            self.calls.append(method)
            if waiting := self.faults.get(method):
                context.abort(waiting.pop(0), f"{method} was told to fail")
            try:
                response = getattr(self, method)(request)
            except Refused as error:
                context.abort(error.code, error.message)
            if method in self.damage:
                self.damage[method](response)
            return response


def _algorithm(kept: Kept) -> Any:
    return (
        _ALGORITHMS.EC_SIGN_P256_SHA256 if kept.private.curve.name == "secp256r1" else _ALGORITHMS.EC_SIGN_P384_SHA384
    )


_METHODS: dict[str, tuple[str, type]] = {
    "CreateCryptoKey": ("create_crypto_key", kms_v1.CreateCryptoKeyRequest),
    "GetCryptoKeyVersion": ("get_crypto_key_version", kms_v1.GetCryptoKeyVersionRequest),
    "ListCryptoKeys": ("list_crypto_keys", kms_v1.ListCryptoKeysRequest),
    "GetPublicKey": ("get_public_key", kms_v1.GetPublicKeyRequest),
    "AsymmetricSign": ("asymmetric_sign", kms_v1.AsymmetricSignRequest),
    "DestroyCryptoKeyVersion": ("destroy_crypto_key_version", kms_v1.DestroyCryptoKeyVersionRequest),
}


@contextmanager
def serving(kms: KmsServer) -> Iterator[kms_v1.KeyManagementServiceClient]:
    """Google's client of a server on loopback."""
    server = grpc.server(ThreadPoolExecutor(max_workers=8))
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(
            lambda request, context, method=method: kms.answer(method, request, context),
            request_deserializer=kind.deserialize,  # type: ignore[attr-defined]
            response_serializer=lambda response: type(response).serialize(response),
        )
        for name, (method, kind) in _METHODS.items()
    }
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(_SERVICE, handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.enable_http_proxy", 0)])
    try:
        yield kms_v1.KeyManagementServiceClient(transport=KeyManagementServiceGrpcTransport(channel=channel))
    finally:
        channel.close()
        server.stop(None).wait()
