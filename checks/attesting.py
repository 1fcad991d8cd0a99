"""The options of `checks.verify` for statements: to write one, to check one, to make a key."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path

from checks.attestation import (
    BUILDER,
    FOLDER,
    SIGNERS,
    CountsForNothing,
    Rebuild,
    checked_builder,
    make_statement,
    read_evidence,
    refuse_local_paths,
    written,
)
from checks.revisions import Revision, git
from checks.signing import make_key_pair, read_private_key, read_signers, signer_of
from stages.shared.runtime.errors import BadInput
from stages.shared.runtime.terminal import say, visible, warn


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds them to the options of verify."""
    parser.add_argument("--attest", metavar="FILE", help="write what was rebuilt as an in-toto statement")
    parser.add_argument("--key", metavar="FILE", help="sign it: an Ed25519 key of ssh-keygen or in PEM, no passphrase")
    parser.add_argument("--builder", metavar="URI", help="who rebuilds, in the statement")
    parser.add_argument("--check-attestation", metavar="FILE", help="run nothing: what does this statement count for?")
    parser.add_argument("--trusted-keys", metavar="FILE", help=f"whose, if not those of {FOLDER}/{SIGNERS}")
    parser.add_argument("--make-key", metavar="FILE", help="run nothing: make a key, and FILE.pub")


def check_options(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Ends the program in argparse's way where options do not go together."""
    if (options.key or options.builder) and not options.attest:
        parser.error("--key and --builder belong to --attest")
    if options.trusted_keys and not options.check_attestation:
        parser.error("--trusted-keys belongs to --check-attestation")
    if sum(map(bool, (options.attest, options.check_attestation, options.make_key, options.quick))) > 1:
        parser.error("one of --attest, --check-attestation, --make-key and --quick at a time")


def prepared(options: argparse.Namespace, revision: Revision) -> Callable[[Rebuild], None]:
    """Returns what writes the statement, after all that can be wrong with it before hours of work has been looked at.

    Raises:
        BadInput: the key, the builder's id or the file to write is unusable, or nobody else could rebuild the revision.
    """
    file = Path(options.attest)
    builder = checked_builder(options.builder or BUILDER)
    refuse_local_paths(revision.lock)
    key = read_private_key(Path(options.key)) if options.key else None
    if file.is_dir() or not os.access(file if file.exists() else file.parent, os.W_OK):
        raise BadInput(f"--attest: {file} cannot be written; name a file in a folder that exists")
    if options.key and file.exists() and file.samefile(options.key):
        raise BadInput(f"--attest: {file} is the key itself; name another file")

    def write(rebuild: Rebuild) -> None:
        text = written(make_statement(rebuild, builder), key)
        try:
            file.write_text(text, encoding="utf-8")
        except OSError as error:
            raise BadInput(f"--attest: {file} cannot be written: {error.strerror}") from None
        by = "unsigned, so it does not count in the gate"
        if key:
            signer = signer_of(key)
            by = f"signed by {signer.fingerprint}, in {SIGNERS}: {signer.line}"
        warn(f"verify: {file}: {rebuild.verdict}; {by}")

    return write


def check(options: argparse.Namespace, revision: Revision) -> int:
    """Says whether a file is evidence that a revision was rebuilt, and returns the exit status."""
    file, listed = options.check_attestation, options.trusted_keys or f"{FOLDER}/{SIGNERS}"
    signers = read_signers(Path(listed) if options.trusted_keys else revision.root / listed, listed)
    try:
        evidence = read_evidence(Path(file), file, signers, revision.lock)
    except CountsForNothing as error:
        say(visible(f"{file}: does not count: {error}"))
        return 1
    names = " and ".join(f"{signer.name} {signer.fingerprint}".strip() for signer in evidence.signers)
    say(
        visible(
            f"{file}: identical bytes, for the dvc.lock of {revision.name}; commit {evidence.commit}, "
            f"rebuilt by {evidence.builder}, signed by {names}"
        )
    )
    return 0


def make_key(file: Path, root: Path) -> int:
    """Makes a key pair, but none that the next commit would take along, and returns the exit status."""
    whole = file.resolve()
    if whole.is_relative_to(root.resolve()) and git(root, "check-ignore", "--quiet", str(whole)) is None:
        raise BadInput(
            f"--make-key: {file} is in the repository, where a commit could include it; name a file elsewhere"
        )
    signer = make_key_pair(file)
    say(f"{file}: the private key; keep it to yourself")
    say(f"{file}.pub: the public key, a line for {FOLDER}/{SIGNERS}:")
    say(signer.line)
    return 0
