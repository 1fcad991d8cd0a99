"""Ed25519 keys and DSSE envelopes: who signed a file, checked offline.

The envelope is that of https://github.com/secure-systems-lab/dsse, protocol 1.0: a few lines over `cryptography`, which
DVC brings along. A library of its own would bring more code to trust than it saves.
"""

import base64
import binascii
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_ssh_private_key,
    load_ssh_public_key,
)

from stages.shared.runtime.errors import BadInput

SSH_HEADER = b"-----BEGIN OPENSSH PRIVATE KEY-----"
NEW_KEY = "`ssh-keygen -t ed25519 -N '' -f FILE` or --make-key FILE makes one"


@dataclass(frozen=True)
class Signer:
    """A public key, and whose it is said to be."""

    name: str
    public: bytes  # 32 bytes

    @property
    def fingerprint(self) -> str:
        """What `ssh-keygen -l` shows of the key."""
        blob = base64.b64decode(_public_line(self.public).split()[1])
        return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")

    @property
    def line(self) -> str:
        """The key as a .pub file of ssh-keygen has it."""
        return f"{_public_line(self.public)} {self.name}".rstrip()


class NoEnvelope(Exception):  # noqa: N818  (it names what was found)
    """A content that no signature can be read from; the message says why."""


def signer_of(key: Ed25519PrivateKey, name: str = "") -> Signer:
    """Returns the public half of a key."""
    return Signer(name, key.public_key().public_bytes_raw())


def read_private_key(file: Path) -> Ed25519PrivateKey:
    """Reads a private key as ssh-keygen writes it, or in PEM (PKCS #8) as openssl does. Nothing of it is ever printed.

    Raises:
        BadInput: it cannot be read, has a passphrase, or is no private key of Ed25519.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise BadInput(f"{file}: the key cannot be read: {error.strerror}") from None
    load = load_ssh_private_key if SSH_HEADER in content else load_pem_private_key
    try:
        key = load(content, None)
    except TypeError:
        raise BadInput(
            f"{file}: the key has a passphrase, which is not supported; use a key without one: {NEW_KEY}"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise BadInput(f"{file}: not a private key in OpenSSH's format or in PEM; {NEW_KEY}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise BadInput(f"{file}: not an Ed25519 key; {NEW_KEY}")
    return key


def make_key_pair(file: Path) -> Signer:
    """Writes a new private key, for its owner's eyes alone, and beside it the public one as FILE.pub.

    Raises:
        BadInput: one of the files exists, or cannot be written.
    """
    public = file.with_name(f"{file.name}.pub")
    key = Ed25519PrivateKey.generate()
    signer = signer_of(key, file.stem)
    try:
        if public.exists():
            raise FileExistsError
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
            stream.write(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
        public.write_text(f"{signer.line}\n", encoding="utf-8")
    except FileExistsError:
        raise BadInput(f"{file}: it or {public.name} already exists; name another file") from None
    except OSError as error:
        raise BadInput(f"{file}: cannot be written: {error.strerror}") from None
    return signer


def read_signers(file: Path, shown: str) -> dict[bytes, Signer]:
    """Reads the list of trusted keys, one a line as a .pub file of ssh-keygen has it, by their 32 bytes.

    Args:
        shown: the file's name in messages.

    Raises:
        BadInput: it cannot be read, or a line is no public key of Ed25519. The line is not shown: it may be a secret.
    """
    expected = "expected a line `ssh-ed25519 AAAA... name`, as in a .pub file of ssh-keygen"
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise BadInput(f"{shown}: not found; this file lists the trusted keys; for each key, {expected}") from None
    except OSError as error:
        raise BadInput(f"{shown}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadInput(f"{shown}: not UTF-8 text; for each key, {expected}") from None
    signers: dict[bytes, Signer] = {}
    for number, line in enumerate(lines, start=1):
        fields = line.split(maxsplit=2)
        if not fields or fields[0].startswith("#"):
            continue
        try:
            key = load_ssh_public_key(" ".join(fields[:2]).encode())
        except (ValueError, UnsupportedAlgorithm):
            key = None
        if not isinstance(key, Ed25519PublicKey):
            raise BadInput(f"{shown}: line {number}: {expected}")
        public = key.public_bytes_raw()
        signers.setdefault(public, Signer(fields[2].strip() if len(fields) > 2 else "", public))
    return signers


def sign_envelope(payload: bytes, payload_type: str, key: Ed25519PrivateKey) -> dict[str, Any]:
    """Makes an envelope. Ed25519 draws no random numbers: the same payload and key give the same bytes."""
    signature = key.sign(_signed_bytes(payload_type, payload))
    return {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": payload_type,
        "signatures": [{"keyid": signer_of(key).fingerprint, "sig": base64.b64encode(signature).decode()}],
    }


def open_envelope(
    envelope: Mapping[str, Any], payload_type: str, signers: Mapping[bytes, Signer]
) -> tuple[bytes, list[Signer]]:
    """Returns the payload, and who of `signers` has signed it; nobody where no signature is theirs.

    Every signature is tried with every key: the id that stands beside it is a hint that anybody can write. A key counts
    once, however often it has signed.

    Raises:
        NoEnvelope: a field is missing or of another form, or the payload is of another type.
    """
    signatures = envelope.get("signatures")
    if not isinstance(signatures, list) or not all(isinstance(one, Mapping) for one in signatures):
        raise NoEnvelope("its `signatures` are no list")
    if envelope.get("payloadType") != payload_type:
        raise NoEnvelope(f"its payloadType is {envelope.get('payloadType')!r}, expected {payload_type!r}")
    payload = _decoded(envelope.get("payload"))
    if payload is None:
        raise NoEnvelope("its payload is no base64")
    signed = _signed_bytes(payload_type, payload)
    proofs = [_decoded(one.get("sig")) for one in signatures]
    found = [one for one in signers.values() if any(proof and _is_by(one, proof, signed) for proof in proofs)]
    return payload, found


def _is_by(signer: Signer, signature: bytes, signed: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(signer.public).verify(signature, signed)
    except InvalidSignature:
        return False
    return True


def _signed_bytes(payload_type: str, payload: bytes) -> bytes:
    """Returns the standard's "pre-authentication encoding", in which neither part can pass for a piece of the other."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def _decoded(text: Any) -> bytes | None:
    """Decodes base64, of the usual or the URL-safe alphabet as the standard asks; None where it is none."""
    if not isinstance(text, str):
        return None
    try:
        return base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError):
        return None


def _public_line(public: bytes) -> str:
    key = Ed25519PublicKey.from_public_bytes(public)
    return key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
