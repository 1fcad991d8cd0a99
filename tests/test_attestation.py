"""What a statement about a rebuild says, whose it is, and what it counts for; without a rebuild."""

import hashlib
import json
import os
import re
import subprocess
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from checks import attesting, verify
from checks.artifacts import Agreement
from checks.attestation import PAYLOAD_TYPE, Count, Rebuild, count, digest_of, make_statement, written
from checks.signing import open_envelope, read_private_key, read_signers, sign_envelope, signer_of
from stages.shared.runtime.errors import BadInput
from tests.statements import ADA, BOB, COMMIT, DIGESTS, EVE, LOCK, edited, statement_of

TRUSTED = {one.public: one for one in (signer_of(ADA, "ada"), signer_of(BOB, "bob"))}


def counted(folder: Path, *texts: str, **trusted: Ed25519PrivateKey) -> Count:
    """Counts files called 1, 2 and so on; Ada and Bob are trusted."""
    for number, text in enumerate(texts, start=1):
        (folder / f"{number}.json").write_text(text)
    files = sorted((file, file.stem) for file in folder.glob("*.json"))
    more = {signer.public: signer for signer in (signer_of(key, name) for name, key in trusted.items())}
    return count(files, TRUSTED | more, LOCK)


def by(key: Ed25519PrivateKey | None, change: Callable[[dict[str, Any]], object] | None = None, **facts: Any) -> str:
    """A statement; what is changed in it was changed before it was signed."""
    statement = statement_of(**facts)
    if change:
        change(statement)
    return written(statement, key)


def test_two_statements_of_two_trusted_keys_count(tmp_path: Path) -> None:
    other = by(BOB, builder="https://example.org/bob")
    assert counted(tmp_path, by(ADA), other) == Count(["ada (1)", "bob (2)"], [])


def test_two_signatures_of_one_statement_count_as_two(tmp_path: Path) -> None:
    """As the standard has it; who rebuilds to the same bytes, under the same name, would write the same statement."""
    both = json.loads(by(ADA))
    both["signatures"] += json.loads(by(BOB))["signatures"]
    assert counted(tmp_path, json.dumps(both)).by == ["ada (1)", "bob (1)"]


def of_other_weights(statement: dict[str, Any]) -> None:
    statement["subject"][1]["digest"]["md5"] = "0" * 32


def of_another_rate(statement: dict[str, Any]) -> None:
    stages = statement["predicate"]["buildDefinition"]["externalParameters"]["stages"]
    stages["train"]["params"]["params.yaml"]["train"]["learning_rate"] = 0.5


def of_another_stage(statement: dict[str, Any]) -> None:
    statement["predicate"]["buildDefinition"]["externalParameters"]["stages"]["more"] = {}


def with_one_more(statement: dict[str, Any]) -> None:
    statement["subject"].append({"name": "models/other", "digest": {"md5": "0" * 32, "sha256": "0" * 64}})


def with_one_twice(statement: dict[str, Any]) -> None:
    statement["subject"].append(statement["subject"][0])


def without_an_input(statement: dict[str, Any]) -> None:
    del statement["predicate"]["buildDefinition"]["resolvedDependencies"][1]


def of_other_bytes(statement: dict[str, Any]) -> None:
    statement["subject"][1]["digest"]["sha256"] = "0" * 64


def without_sha(statement: dict[str, Any]) -> None:
    del statement["subject"][1]["digest"]["sha256"]


def without_verdict(statement: dict[str, Any]) -> None:
    del statement["predicate"]["runDetails"]["tunelock:verdict"]


def of_another_build(statement: dict[str, Any]) -> None:
    statement["predicate"]["buildDefinition"]["buildType"] = "https://example.org/other"


def of_another_predicate(statement: dict[str, Any]) -> None:
    statement["predicateType"] = "https://slsa.dev/provenance/v0.2"


def enveloped(**fields: Any) -> str:
    """Bob's envelope, with other fields."""
    return json.dumps(json.loads(by(BOB)) | fields)


SIGNED_ONLY = "signed, but not a statement as `checks.verify --attest` writes it"
EDITED = "edited: the signature does not match, although it names bob"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (by(ADA), "signed by ada, whose key already counts in 1"),
        (by(ADA, builder="https://example.org/bob"), "signed by ada, whose key already counts in 1"),
        (
            json.dumps(json.loads(by(ADA)) | {"signatures": json.loads(by(ADA))["signatures"] * 2}),
            "signed by ada, whose",
        ),
        (by(None), "unsigned: anybody could have written it"),
        (enveloped(signatures=[]), "unsigned: anybody could have written it"),
        (by(EVE), f"signed by no trusted key: {signer_of(EVE).fingerprint}"),
        (by(EVE).replace(signer_of(EVE).fingerprint, signer_of(BOB).fingerprint), EDITED),
        (edited(by(BOB), of_other_weights), EDITED),
        (edited(by(BOB), lambda statement: None), EDITED),  # the same, but written otherwise
        (enveloped(signatures=[{"sig": "AAAA"}]), "signed by no trusted key: without an id"),
        (enveloped(signatures=[{"keyid": signer_of(BOB).fingerprint}]), EDITED),
        (by(BOB, of_other_weights), "of another dvc.lock: models/finetuned"),
        (by(BOB, of_another_rate), "of another dvc.lock: the recipe of train"),
        (by(BOB, of_another_stage), "of another dvc.lock: the recipe"),
        (by(BOB, with_one_more), "of another dvc.lock: models/other"),
        (by(BOB, with_one_twice), "of another dvc.lock: data/raw"),
        (by(BOB, without_an_input), "of another dvc.lock: data/raw"),
        *(
            (by(BOB, verdict=verdict), f"its verdict is '{verdict}', and only 'identical bytes' counts")
            for verdict in Agreement
            if verdict is not Agreement.IDENTICAL
        ),
        (by(BOB, without_verdict), SIGNED_ONLY),
        (by(BOB, without_sha), SIGNED_ONLY),
        (by(BOB, of_another_build), "of another build: 'https://example.org/other', "),
        (by(BOB, of_another_predicate), "of type 'https://slsa.dev/provenance/v0.2', "),
        (json.dumps(sign_envelope(b"{}", PAYLOAD_TYPE, BOB)), SIGNED_ONLY),
        (json.dumps(sign_envelope(b"[[]]", PAYLOAD_TYPE, BOB)), SIGNED_ONLY),
        (json.dumps(sign_envelope(b"\xff", PAYLOAD_TYPE, BOB)), "not JSON"),
        (
            json.dumps(sign_envelope(b"{}", "application/json", BOB)),
            "its payloadType is 'application/json', expected 'application/vnd.in-toto+json'",
        ),
        (enveloped(payload="?"), "its payload is no base64"),
        (enveloped(payload=None), "its payload is no base64"),
        (enveloped(signatures=1), "its `signatures` are no list"),
        (enveloped(signatures=["x"]), "its `signatures` are no list"),
        ("no json", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "neither a statement of in-toto nor an envelope of DSSE"),
        ("{}", "neither a statement of in-toto nor an envelope of DSSE"),
        (" " * 10_000_001, "larger than 10000000 bytes"),
    ],
)
def test_what_is_no_second_rebuild_does_not_count_and_it_is_said_why(text: str, why: str, tmp_path: Path) -> None:
    found = counted(tmp_path, by(ADA), text)
    assert found.by == ["ada (1)"]
    (line,) = found.refused
    assert line.startswith(f"2: {why}")


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.json")
    (tmp_path / "b.json").mkdir()
    (tmp_path / "c.json").symlink_to("nowhere")
    missing = "cannot be read: No such file or directory"
    assert counted(tmp_path) == Count([], ["a: no file", "b: no file", f"c: {missing}"])


def test_where_keys_contradict_each_other_the_larger_side_counts(tmp_path: Path) -> None:
    other = "its SHA-256 hashes differ from those of most keys"
    assert counted(tmp_path, by(BOB, of_other_bytes), by(ADA)) == Count([], [f"1: {other}", f"2: {other}"])
    found = counted(tmp_path, by(BOB, of_other_bytes), by(ADA), by(EVE), eve=EVE)
    assert found == Count(["ada (2)", "eve (3)"], [f"1: {other}"])


# Keys and envelopes


def test_the_envelope_is_that_of_the_standard() -> None:
    """The key is the first of RFC 8032. Its signature of what DSSE's protocol describes was made by openssl."""
    key = Ed25519PrivateKey.from_private_bytes(
        bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    )
    envelope = sign_envelope(b'{"_type":"https://in-toto.io/Statement/v1"}', PAYLOAD_TYPE, key)
    signature = "2WAfaHm5jluo0w+0rk8uVkluELJYWjSmU9x7EUzx+AyteDGJ4/nqyJXfmAUVFIAoQafWm7AxBZNw5M9ixNHiCA=="
    assert envelope == {
        "payload": "eyJfdHlwZSI6Imh0dHBzOi8vaW4tdG90by5pby9TdGF0ZW1lbnQvdjEifQ==",
        "payloadType": "application/vnd.in-toto+json",
        "signatures": [{"keyid": signer_of(key).fingerprint, "sig": signature}],
    }
    trusted = {signer.public: signer for signer in (signer_of(ADA), signer_of(key))}
    url_safe = envelope | {"signatures": [{"sig": signature.replace("+", "-").replace("/", "_")}]}
    for form in (envelope, url_safe):
        assert open_envelope(form, PAYLOAD_TYPE, trusted)[1] == [signer_of(key)]


PEM, OPENSSH = PrivateFormat.PKCS8, PrivateFormat.OpenSSH


def key_file(file: Path, key: Any = ADA, form: PrivateFormat = OPENSSH, password: bytes | None = None) -> Path:
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    file.write_bytes(key.private_bytes(Encoding.PEM, form, encryption))
    return file


@pytest.mark.parametrize("form", [PEM, OPENSSH])
def test_keys_as_ssh_keygen_and_openssl_write_them_are_read(form: PrivateFormat, tmp_path: Path) -> None:
    assert signer_of(read_private_key(key_file(tmp_path / "key", form=form))) == signer_of(ADA)
    with pytest.raises(BadInput, match="key: not an Ed25519 key; `ssh-keygen -t ed25519"):
        read_private_key(key_file(tmp_path / "key", ec.generate_private_key(ec.SECP256R1()), form))


def test_a_key_with_a_passphrase_is_told(tmp_path: Path) -> None:
    key_file(tmp_path / "key.pem", form=PEM, password=b"hidden")
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "hidden", "-f", str(tmp_path / "key")]
    subprocess.run(command, check=True)
    for name in ("key.pem", "key"):
        with pytest.raises(BadInput, match=f"{name}: the key has a passphrase, which is not supported; "):
            read_private_key(tmp_path / name)


def test_what_is_no_private_key_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="key: the key cannot be read: No such file or directory"):
        read_private_key(tmp_path / "key")
    header = b"-----BEGIN OPENSSH PRIVATE KEY-----\n"
    for content in (b"", b"\xff", signer_of(ADA).line.encode(), header, header + b"AAAA"):
        (tmp_path / "key").write_bytes(content)
        with pytest.raises(BadInput, match="key: not a private key in OpenSSH's format or in PEM"):
            read_private_key(tmp_path / "key")


def test_a_new_key_is_its_owners_alone_and_overwrites_none(tmp_path: Path) -> None:
    file = tmp_path / "ada"
    assert attesting.make_key(file, tmp_path / "project") == 0
    signer = signer_of(read_private_key(file), "ada")
    assert file.with_name("ada.pub").read_text() == f"{signer.line}\n"
    assert file.stat().st_mode & 0o077 == 0
    known = subprocess.run(["ssh-keygen", "-l", "-f", str(file)], check=True, capture_output=True, text=True)
    assert known.stdout.split()[1] == signer.fingerprint
    for name in ("ada", "ada.pub"):
        (tmp_path / name).rename(tmp_path / "kept")
        before = {path: path.read_bytes() for path in tmp_path.iterdir()}
        with pytest.raises(BadInput, match=r"ada: it or ada\.pub already exists; name another"):
            attesting.make_key(file, tmp_path / "project")
        assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
        (tmp_path / "kept").rename(tmp_path / name)


def test_a_new_key_is_not_put_where_a_commit_takes_it_along(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    (tmp_path / ".gitignore").write_text(".scratch/\n")
    (tmp_path / ".scratch").mkdir()
    with pytest.raises(BadInput, match="is in the repository, where a commit could include it; name a file elsewhere"):
        attesting.make_key(tmp_path / "key", tmp_path)
    assert attesting.make_key(tmp_path / ".scratch" / "key", tmp_path) == 0


def test_the_list_of_trusted_keys_is_read_and_never_shown(tmp_path: Path) -> None:
    file = tmp_path / "keys.txt"
    line = signer_of(ADA).line
    file.write_text(f"\n  # nobody\n{line}  ada  lovelace \n{line} again\n{signer_of(BOB).line}\n")
    assert [signer.name for signer in read_signers(file, "keys").values()] == ["ada  lovelace", ""]
    for content in (b"secret", b"ssh-ed25519 AAAA secret", b"ssh-rsa AAAA", b"-----BEGIN secret-----"):
        file.write_bytes(f"{line}\n".encode() + content)
        with pytest.raises(BadInput, match="keys: line 2: expected a line `ssh-ed25519 AAAA") as caught:
            read_signers(file, "keys")
        assert "secret" not in str(caught.value)
    file.write_bytes(b"\xff")
    with pytest.raises(BadInput, match="keys: not UTF-8 text"):
        read_signers(file, "keys")


# What is attested


def test_a_statement_is_that_of_the_standards() -> None:
    verdicts = {"download": Agreement.IDENTICAL, "train": Agreement.WITHIN}
    statement = make_statement(Rebuild(COMMIT, LOCK, DIGESTS, verdicts), "https://example.org/ada")
    assert statement == {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [
            {"name": "data/raw", "digest": {"dvc_md5_dir": "2" * 32, "dirHash": "5" * 64}},
            {"name": "models/finetuned", "digest": {"md5": "4" * 32, "sha256": "6" * 64}},
        ],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": "tunelock:dvc-repro-force/v1",
                "externalParameters": {
                    "stages": {
                        "download": {
                            "cmd": "exec python -m stages.download",
                            "deps": ["data/sample"],
                            "outs": ["data/raw"],
                            "params": LOCK["download"]["params"],
                        },
                        "train": {
                            "cmd": "exec python -m stages.train",
                            "deps": ["data/raw", "requirements.txt"],
                            "outs": ["models/finetuned"],
                            "params": LOCK["train"]["params"],
                        },
                    }
                },
                "resolvedDependencies": [
                    {"name": "repository", "digest": {"gitCommit": COMMIT}},
                    {"name": "data/raw", "digest": {"dvc_md5_dir": "2" * 32}},
                    {"name": "data/sample", "digest": {"dvc_md5_dir": "1" * 32}},
                    {"name": "requirements.txt", "digest": {"md5": "3" * 32}},
                ],
            },
            "runDetails": {
                "builder": {"id": "https://example.org/ada"},
                "tunelock:verdict": {
                    "verdict": "differs, within tolerance",
                    "stages": {"download": "identical bytes", "train": "differs, within tolerance"},
                },
            },
        },
    }


def test_the_same_rebuild_gives_the_same_bytes_and_no_time() -> None:
    shuffled = {stage: dict(reversed(LOCK[stage].items())) for stage in reversed(LOCK)}
    for key in (None, ADA):
        assert by(key) == by(key, lock=shuffled)
    assert by(None).endswith("}\n") and not re.search(r"\d{4}-\d\d-\d\d|\d\d:\d\d", by(None))


def test_the_hash_of_a_folder_is_what_sha256sum_says_of_it(tmp_path: Path) -> None:
    for name in ("b", "a/z", "a-c", "a/B", "Ä"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    command = "find . -type f | cut -c3- | LC_ALL=C sort | xargs -r sha256sum | sha256sum | cut -f1 -d' '"
    printed = subprocess.run(command, shell=True, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert digest_of(tmp_path) == {"dirHash": printed.strip()}
    assert digest_of(tmp_path / "b") == {"sha256": hashlib.sha256(b"b").hexdigest()}


def prepare(attest: Path, key: Path | None = None, builder: str | None = None, lock: Any = LOCK) -> None:
    options = Namespace(attest=str(attest), key=key and str(key), builder=builder)
    attesting.prepared(options, SimpleNamespace(lock=lock))


def test_what_is_wrong_is_said_before_anything_runs(tmp_path: Path) -> None:
    key, file = key_file(tmp_path / "key"), tmp_path / "x.json"
    prepare(file, key, "mailto:ada@example.org")
    for builder in ("my machine", "machine", "ab:", "ab:\n", "C:\\me", "mailto:ä"):
        with pytest.raises(BadInput, match="--builder: must be a URI, such as https://"):
            prepare(file, key, builder)
    for other in (tmp_path, tmp_path / "nowhere" / "x.json"):
        with pytest.raises(BadInput, match="cannot be written; name a file in a folder that exists"):
            prepare(other)
    with pytest.raises(BadInput, match=r"--attest: .* is the key itself; name another file"):
        prepare(key, key)
    for path in ("/srv/texts", "../texts"):
        lock = LOCK | {"download": {"cmd": "x", "deps": [{"path": path, "md5": "0" * 32}]}}
        with pytest.raises(BadInput, match=f"--attest: dvc.lock names {path}, which is outside the project"):
            prepare(file, lock=lock)
    assert not file.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--key", "x"],
        ["--builder", "a:b"],
        ["--trusted-keys", "x"],
        ["--attest", "x", "--quick"],
        ["--attest", "x", "--check-attestation", "x"],
    ],
)
def test_options_that_do_not_go_together_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        verify.main(arguments)
    assert caught.value.code == 2 and re.search("at a time|belong", capsys.readouterr().err)
