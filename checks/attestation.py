"""Writes a rebuild as an in-toto statement with SLSA provenance, and decides which statements count.

The statement is of in-toto's Statement v1 and SLSA's provenance v1. docs/attestations.md says what each field holds.
It has no time, host name or path of a machine, so that two machines which rebuilt the same say the same.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from checks.artifacts import Agreement
from checks.revisions import NO_HASHES
from checks.signing import NoEnvelope, Signer, open_envelope, sign_envelope
from stages.shared.runtime.errors import BadInput
from stages.shared.runtime.made_from import plain_values

STATEMENT, PREDICATE = "https://in-toto.io/Statement/v1", "https://slsa.dev/provenance/v1"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
BUILD_TYPE, BUILDER = "tunelock:dvc-repro-force/v1", "tunelock:verify"
VERDICT = "tunelock:verdict"  # in-toto's extension fields have names that are URIs
REPOSITORY = "repository"
FOLDER, SIGNERS = "attestations", "keys.txt"  # where the gate looks, and the trusted keys in there
STRONG = ("sha256", "dirHash")  # of a subject; the other hash is the one in dvc.lock, an MD5
MOST_BYTES = 10_000_000  # of a file that is read; one of ours has 20,000
URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:[\w.~:/?#\[\]@!$&'()*+,;=%-]+", re.ASCII)


class Claims(NamedTuple):
    """What a statement says of a dvc.lock."""

    recipe: dict[str, Any]
    dependencies: list[tuple[str, dict[str, str]]]  # path and hash
    subjects: list[tuple[str, dict[str, str]]]


@dataclass(frozen=True)
class Rebuild:
    """What a forced run in a clean clone left."""

    commit: str
    lock: Mapping[str, Any]  # its dvc.lock
    digests: Mapping[str, dict[str, str]]  # of each out
    verdicts: Mapping[str, Agreement]  # of each stage, against the dvc.lock of the commit

    @property
    def verdict(self) -> Agreement:
        return max(self.verdicts.values(), default=Agreement.IDENTICAL)


class CountsForNothing(Exception):  # noqa: N818  (it names what was found)
    """A file is no evidence of a rebuild; the message says why."""


@dataclass(frozen=True)
class SignedRebuild:
    """A statement that holds: it is signed by trusted keys, of this dvc.lock, and found identical bytes."""

    file: str
    signers: list[Signer]
    builder: str
    commit: str
    digests: tuple[tuple[str, str], ...]  # SHA-256 of what was rebuilt, by path


@dataclass(frozen=True)
class Count:
    """Who says that a lock was rebuilt."""

    by: list[str]  # a trusted key each, with its file
    refused: list[str]  # the other files, and why each counts for nothing


def digest_of(path: Path) -> dict[str, str]:
    """Returns the SHA-256 of a file, or in-toto's `dirHash` of a folder: that of what `sha256sum` prints of it."""
    if not path.is_dir():
        return {"sha256": _sha256(path)}
    files = sorted((file.relative_to(path).as_posix().encode(), file) for file in path.rglob("*") if file.is_file())
    lines = b"".join(b"%b  %b\n" % (_sha256(file).encode(), name) for name, file in files)
    return {"dirHash": hashlib.sha256(lines).hexdigest()}


def refuse_local_paths(lock: Mapping[str, Any]) -> None:
    """Refuses a lock that nobody else can rebuild, and whose paths would tell of the machine.

    Raises:
        BadInput: a stage reads or writes something outside of the project.
    """
    for entry in lock.values():
        for item in (*entry.get("deps", []), *entry.get("outs", [])):
            path = PurePosixPath(item["path"])
            if path.is_absolute() or ".." in path.parts:
                raise BadInput(
                    f"--attest: dvc.lock names {item['path']}, which is outside the project, so no other machine "
                    "can rebuild it; move it into the project, under `dvc add` if it may not be in Git"
                )


def make_statement(rebuild: Rebuild, builder: str) -> dict[str, Any]:
    """Writes a rebuild as an in-toto statement.

    Raises:
        BadInput: a stage reads or writes something outside of the project.
    """
    refuse_local_paths(rebuild.lock)
    claims = _claims(rebuild.lock)
    repository = {"name": REPOSITORY, "digest": {"gitCommit": rebuild.commit}}
    return {
        "_type": STATEMENT,
        "subject": [{"name": name, "digest": digest | rebuild.digests[name]} for name, digest in claims.subjects],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": claims.recipe,
                "resolvedDependencies": [
                    repository,
                    *({"name": name, "digest": digest} for name, digest in claims.dependencies),
                ],
            },
            "runDetails": {
                "builder": {"id": builder},
                VERDICT: {
                    "verdict": str(rebuild.verdict),
                    "stages": {stage: str(verdict) for stage, verdict in rebuild.verdicts.items()},
                },
            },
        },
    }


def checked_builder(builder: str) -> str:
    """Returns a builder's id, which the standard wants to be a URI.

    Raises:
        BadInput: it is none.
    """
    if not URI.fullmatch(builder):
        raise BadInput(
            f"--builder: must be a URI, such as https://example.org/machine or mailto:ada@example.org, got {builder!r}"
        )
    return builder


def written(statement: Mapping[str, Any], key: Ed25519PrivateKey | None) -> str:
    """Returns the text of a statement's file: an envelope with a signature, or without a key the statement itself."""
    if key is None:
        return json.dumps(statement, indent=2, sort_keys=True) + "\n"
    payload = json.dumps(statement, sort_keys=True, separators=(",", ":")).encode()
    return json.dumps(sign_envelope(payload, PAYLOAD_TYPE, key), indent=2, sort_keys=True) + "\n"


def read_evidence(file: Path, shown: str, signers: Mapping[bytes, Signer], lock: Mapping[str, Any]) -> SignedRebuild:
    """Reads a file as evidence that a lock was rebuilt. Who signed it is settled before anything in it is believed.

    Args:
        shown: the file's name in messages.
        signers: those who are trusted, as `read_signers` returns them.
        lock: the stages of the dvc.lock that it is to be of.

    Raises:
        CountsForNothing: it is none.
    """
    envelope = _json(_content(file))
    if not isinstance(envelope, dict) or not ({"payload", "signatures"} & envelope.keys() or "_type" in envelope):
        raise CountsForNothing("neither a statement of in-toto nor an envelope of DSSE")
    if "_type" in envelope or envelope.get("signatures") == []:
        raise CountsForNothing("unsigned: anybody could have written it")
    try:
        payload, found = open_envelope(envelope, PAYLOAD_TYPE, signers)
    except NoEnvelope as error:
        raise CountsForNothing(str(error)) from None
    if not found:
        raise CountsForNothing(_nobody(envelope["signatures"], signers.values()))
    statement = _json(payload)
    try:
        return _checked(statement, shown, found, lock)
    except (LookupError, TypeError, AttributeError, ValueError):
        raise CountsForNothing("signed, but not a statement as `checks.verify --attest` writes it") from None


def count(files: Iterable[tuple[Path, str]], signers: Mapping[bytes, Signer], lock: Mapping[str, Any]) -> Count:
    """Counts the trusted keys by which a lock is said to have been rebuilt.

    All of them have the MD5s of that lock. Where they differ in SHA-256, some are of other bytes with the same MD5, or
    wrong: those that most keys agree on count, and where no side has more keys, none.

    Args:
        files: each with its name in messages.
    """
    evidence: list[SignedRebuild] = []
    refused = []
    for file, shown in files:
        try:
            evidence.append(read_evidence(file, shown, signers, lock))
        except CountsForNothing as error:
            refused.append(f"{shown}: {error}")
    said = {(one.digests, signer.public) for one in evidence for signer in one.signers}
    sides = Counter(digests for digests, _ in said).most_common(2)
    agreed = None if len(sides) == 2 and sides[0][1] == sides[1][1] else sides and sides[0][0]
    counted: dict[bytes, SignedRebuild] = {}
    for one in evidence:
        fresh = [signer for signer in one.signers if signer.public not in counted]
        if one.digests != agreed:
            refused.append(f"{one.file}: its SHA-256 hashes differ from those of most keys")
        elif not fresh:
            before = counted[one.signers[0].public].file
            refused.append(f"{one.file}: signed by {_name(one.signers[0])}, whose key already counts in {before}")
        else:
            counted |= dict.fromkeys((signer.public for signer in fresh), one)
    return Count([f"{_name(signers[public])} ({one.file})" for public, one in counted.items()], refused)


def _claims(lock: Mapping[str, Any]) -> Claims:
    """Returns what a statement says of a lock."""
    recipe = {
        stage: {
            "cmd": entry.get("cmd"),
            "deps": sorted(item["path"] for item in entry.get("deps", [])),
            "outs": sorted(item["path"] for item in entry.get("outs", [])),
            "params": plain_values(entry.get("params", {})),
        }
        for stage, entry in lock.items()
    }
    dependencies, subjects = (
        sorted({(item["path"], *_locked_hash(item)) for entry in lock.values() for item in entry.get(kind, [])})
        for kind in ("deps", "outs")
    )
    return Claims(
        {"stages": recipe},
        [(name, {algorithm: value}) for name, algorithm, value in dependencies],
        [(name, {algorithm: value}) for name, algorithm, value in subjects],
    )


def _locked_hash(item: Mapping[str, Any]) -> tuple[str, str]:
    """Returns the name and value of a hash of dvc.lock; that of a folder is of DVC's listing, and so not `md5`."""
    algorithm = next(name for name in item if name not in NO_HASHES)
    value = str(item[algorithm])
    return (f"dvc_{algorithm}_dir", value.removesuffix(".dir")) if value.endswith(".dir") else (algorithm, value)


def _checked(statement: Any, shown: str, found: list[Signer], lock: Mapping[str, Any]) -> SignedRebuild:
    if statement["_type"] != STATEMENT or statement["predicateType"] != PREDICATE:
        raise CountsForNothing(f"of type {statement['predicateType']!r}, expected {PREDICATE!r}")
    definition, details = (statement["predicate"][name] for name in ("buildDefinition", "runDetails"))
    if definition["buildType"] != BUILD_TYPE:
        raise CountsForNothing(f"of another build: {definition['buildType']!r}, expected {BUILD_TYPE!r}")
    verdict = details[VERDICT]["verdict"]
    if verdict != str(Agreement.IDENTICAL):
        raise CountsForNothing(f"its verdict is {verdict!r}, and only {str(Agreement.IDENTICAL)!r} counts")
    listed = [(item["name"], dict(item["digest"])) for item in definition["resolvedDependencies"]]
    (commit,) = [digest["gitCommit"] for name, digest in listed if "gitCommit" in digest]
    subjects = [(item["name"], dict(item["digest"])) for item in statement["subject"]]
    digests = tuple((str(name), str(digest[key])) for name, digest in subjects for key in STRONG if key in digest)
    if len(digests) != len(subjects):
        raise ValueError
    weak = [(name, {key: digest[key] for key in digest if key not in STRONG}) for name, digest in subjects]
    materials = [(name, digest) for name, digest in listed if "gitCommit" not in digest]
    others = _difference(_claims(lock), Claims(definition["externalParameters"], materials, weak))
    if others:
        raise CountsForNothing(f"of another dvc.lock: {others}")
    return SignedRebuild(shown, found, str(details["builder"]["id"]), str(commit), digests)


def _difference(true: Claims, said: Claims) -> str:
    """Names what is claimed of a lock otherwise than it is; the first few, or nothing."""
    names = []
    for mine, theirs in ((true.dependencies, said.dependencies), (true.subjects, said.subjects)):
        names += [name for name, digest in mine if (name, digest) not in theirs]
        names += [name for name, digest in theirs if (name, digest) not in mine]
        names += [name for name, _ in theirs if len(theirs) != len(mine)]  # one that stands there twice
    if said.recipe != true.recipe:
        stages, others = true.recipe["stages"], said.recipe["stages"]
        changed = [stage for stage in stages if others.get(stage) != stages[stage]]
        names += [f"the recipe of {stage}" for stage in changed] or ["the recipe"]
    names = list(dict.fromkeys(names))
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(map(str, names[:3])) + more


def _nobody(signatures: Iterable[Mapping[str, Any]], signers: Iterable[Signer]) -> str:
    """Says why no signature is a trusted key's; the ids that stand beside them are hints, good enough for a message."""
    hints = [str(one.get("keyid", "without an id"))[:100] for one in signatures]
    for signer in signers:
        if signer.fingerprint in hints:
            return f"edited: the signature does not match, although it names {_name(signer)}"
    return f"signed by no trusted key: {', '.join(hints[:3])}"


def _name(signer: Signer) -> str:
    return signer.name or signer.fingerprint


def _content(file: Path) -> bytes:
    if file.exists() and not file.is_file():  # a link to a terminal would be waited for
        raise CountsForNothing("no file")
    try:
        with file.open("rb") as stream:
            content = stream.read(MOST_BYTES + 1)
    except OSError as error:
        raise CountsForNothing(f"cannot be read: {error.strerror}") from None
    if len(content) > MOST_BYTES:
        raise CountsForNothing(f"larger than {MOST_BYTES} bytes")
    return content


def _json(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        raise CountsForNothing("not JSON") from None


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
