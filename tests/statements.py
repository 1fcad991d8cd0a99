"""Statements about a rebuild, made without one: three keys, a dvc.lock of two stages, what its rebuild would say."""

import base64
import json
from collections.abc import Callable, Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from checks.artifacts import Agreement
from checks.attestation import Rebuild, make_statement

ADA, BOB, EVE = (Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number in (1, 2, 3))
COMMIT = "a" * 40
LOCK: dict[str, Any] = {
    "download": {
        "cmd": "exec python -m stages.download",
        "deps": [{"path": "data/sample", "hash": "md5", "md5": f"{'1' * 32}.dir", "size": 9, "nfiles": 3}],
        "params": {"params.yaml": {"download": {"label_names": ["no", "yes"], "split_seed": 0}}},
        "outs": [{"path": "data/raw", "hash": "md5", "md5": f"{'2' * 32}.dir", "size": 9, "nfiles": 3}],
    },
    "train": {
        "cmd": "exec python -m stages.train",
        "deps": [
            {"path": "data/raw", "hash": "md5", "md5": f"{'2' * 32}.dir", "size": 9, "nfiles": 3},
            {"path": "requirements.txt", "hash": "md5", "md5": "3" * 32, "size": 9},
        ],
        "params": {"params.yaml": {"train": {"learning_rate": 1e-4, "early_stopping_patience": None}}},
        "outs": [{"path": "models/finetuned", "hash": "md5", "md5": "4" * 32, "size": 9}],
    },
}
DIGESTS = {"data/raw": {"dirHash": "5" * 64}, "models/finetuned": {"sha256": "6" * 64}}


def statement_of(
    lock: Mapping[str, Any] = LOCK,
    digests: Mapping[str, dict[str, str]] = DIGESTS,
    verdict: Agreement = Agreement.IDENTICAL,
    builder: str = "tunelock:verify",
) -> dict[str, Any]:
    """What a rebuild of a lock says, with one verdict for every stage."""
    return make_statement(Rebuild(COMMIT, lock, digests, dict.fromkeys(lock, verdict)), builder)


def edited(envelope: str, change: Callable[[dict[str, Any]], None]) -> str:
    """Changes what is in an envelope, and leaves its signature."""
    content = json.loads(envelope)
    statement = json.loads(base64.b64decode(content["payload"]))
    change(statement)
    return json.dumps(content | {"payload": base64.b64encode(json.dumps(statement).encode()).decode()})
