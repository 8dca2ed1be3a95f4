"""Real keys, countable serial numbers."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric import ec


class FakeKeys:
    def __init__(self) -> None:
        self.serials = 0

    def new_key(self) -> ec.EllipticCurvePrivateKey:
        return ec.generate_private_key(ec.SECP256R1())

    def new_serial(self) -> int:
        self.serials += 1
        return self.serials
