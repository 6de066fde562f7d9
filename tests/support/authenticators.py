"""Stand-ins for a telephone's authenticator app and for an authenticator of passkeys."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import time
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.totp import TOTP
from fido2.cose import ES256
from fido2.utils import websafe_decode, websafe_encode
from fido2.webauthn import (
    Aaguid,
    AttestationObject,
    AttestedCredentialData,
    AuthenticatorData,
    CollectedClientData,
)

ORIGIN = "http://localhost"
_FLAG = AuthenticatorData.FLAG


def code_of(secret: str, *, steps: int = 0, at: float | None = None) -> str:
    """The code that an app shows `steps` times 30 seconds from now.

    Tests set an app up by the code of now and sign in by the next: each counts for half a minute
    at least, however slow the machine is. The one before may end a moment later.
    """
    key = base64.b32decode(secret.replace(" ", ""))
    now = time.time() if at is None else at
    # SHA-1 is what apps use.
    totp = TOTP(key, 6, SHA1(), 30)  # noqa: S303
    return totp.generate(int(now) + 30 * steps).decode()


class Authenticator:
    """One that keeps one passkey. What it sends can be bent by its attributes."""

    def __init__(self, *, origin: str = ORIGIN, counts: bool = False) -> None:
        self.origin = origin
        self.rp_id = "localhost"
        self.verifies = True
        self.counts = counts
        self.counter = 0
        self.id = os.urandom(32)
        self.handle = b""
        self._key = ec.generate_private_key(ec.SECP256R1())

    def create(self, options: dict[str, Any], **bent: Any) -> str:
        """What `navigator.credentials.create` answers, as the page's script sends it."""
        public = options["publicKey"]
        self.handle = websafe_decode(public["user"]["id"])
        credential = AttestedCredentialData.create(
            Aaguid.NONE, self.id, ES256.from_cryptography_key(self._key.public_key())
        )
        data = AuthenticatorData.create(
            self._rp_id_hash, self._flags | _FLAG.AT, self._count(), credential
        )
        client_data = self._client_data("webauthn.create", public["challenge"], bent)
        return self._answer(
            clientDataJSON=websafe_encode(client_data),
            attestationObject=websafe_encode(AttestationObject.create("none", data, {})),
        )

    def get(self, options: dict[str, Any], **bent: Any) -> str:
        """What `navigator.credentials.get` answers."""
        public = options["publicKey"]
        data = AuthenticatorData.create(self._rp_id_hash, self._flags, self._count())
        client_data = self._client_data("webauthn.get", public["challenge"], bent)
        signed = data + hashlib.sha256(client_data).digest()
        return self._answer(
            clientDataJSON=websafe_encode(client_data),
            authenticatorData=websafe_encode(data),
            signature=websafe_encode(self._key.sign(signed, ec.ECDSA(hashes.SHA256()))),
            userHandle=websafe_encode(self.handle),
        )

    @property
    def _rp_id_hash(self) -> bytes:
        return hashlib.sha256(self.rp_id.encode()).digest()

    @property
    def _flags(self) -> AuthenticatorData.FLAG:
        return _FLAG.UP | (_FLAG.UV if self.verifies else _FLAG(0))

    def _count(self) -> int:
        if self.counts:
            self.counter += 1
        return self.counter

    def _client_data(self, kind: str, challenge: str, bent: dict[str, Any]) -> bytes:
        said = {"type": kind, "challenge": challenge, "origin": self.origin, **bent}
        return CollectedClientData(json.dumps(said).encode())

    def _answer(self, **response: str) -> str:
        return json.dumps(
            {
                "id": websafe_encode(self.id),
                "rawId": websafe_encode(self.id),
                "type": "public-key",
                "clientExtensionResults": {},
                "response": response,
            }
        )
