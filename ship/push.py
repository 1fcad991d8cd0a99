"""Hands the finished model on: to the Hugging Face Hub, or as a zip with checksums.

    python -m ship.push OWNER/NAME --dry-run     what would travel; no network
    python -m ship.push OWNER/NAME --private
    python -m ship.push --bundle model.zip

What travels is the model of a commit (HEAD, or --revision) as its dvc.lock has it, from DVC's cache or remote: weights,
config, tokenizer, the model card as README.md, and provenance.json with the commit and the hashes of lock and data.
Data never travel. The token is the Hub library's: the variable HF_TOKEN, or what `hf auth login` left. Nothing prints
it. All files arrive in one commit of the Hub, or none does; then their hashes there are compared with those here.
Exit status: 0; 1 with one line on stderr when the model cannot be handed on; 130 after Ctrl-C.
"""

import argparse
import re
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from checks import cli
from ship.archive import entry
from ship.model import FinishedModel
from ship.package import assemble, checksums, statements
from stages.shared.runtime.environment import go_online
from stages.shared.runtime.errors import BadInput
from stages.shared.runtime.publish import publish
from stages.shared.runtime.terminal import say

REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
SUMS = "SHA256SUMS"


def run(repo: Any, options: argparse.Namespace) -> int:
    """Does what was asked for and returns the exit status.

    Raises:
        BadInput: it does not go together, or the Hub refuses.
    """
    if (options.repository is None) == (options.bundle is None):
        raise BadInput("name either a repository of the Hub, OWNER/NAME, or --bundle FILE.zip")
    if options.repository is not None and not REPOSITORY.fullmatch(options.repository):
        raise BadInput(f"{options.repository}: a repository of the Hub is OWNER/NAME")
    scratch = Path(repo.root_dir) / ".scratch"
    scratch.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="push-", dir=scratch) as folder:
        model = assemble(repo, options.revision, Path(folder))
        sums = checksums(Path(folder))
        commit = str(model.revision.commit)
        if options.dry_run:
            target = options.bundle or f"the model repository {options.repository}"
            sizes = "\n".join(
                f"  {(Path(folder) / name).stat().st_size:>12,}  {digest}  {name}" for name, digest in sums.items()
            )
            say(f"push: the model of commit {commit[:12]} would go to {target}:\n{sizes}")
        elif options.bundle is not None:
            bundle(Path(options.bundle), Path(folder), sums, model)
            say(f"push: {options.bundle}, {len(sums)} files of commit {commit[:12]}; `sha256sum --check {SUMS}` in it")
        else:
            address = upload(options.repository, Path(folder), commit, options.private)
            say(f"push: {address}, {len(sums)} files of commit {commit[:12]}, compared with the Hub's hashes")
    return 0


def bundle(file: Path, folder: Path, sums: dict[str, str], model: FinishedModel) -> None:
    """Writes a zip of the folder; the same model gives the same bytes.

    Statements that others rebuilt the model lie in it too, but not in the list of checksums: they come with signatures.
    """
    with publish(file) as (partial,), zipfile.ZipFile(partial, "w") as archive:
        for name in sums:
            write(archive, name, folder / name)
        lines = "".join(f"{digest}  {name}\n" for name, digest in sums.items())
        archive.writestr(entry(SUMS), lines.encode())
        for name, statement in statements(model.revision):
            write(archive, name, statement)


def write(archive: zipfile.ZipFile, name: str, file: Path) -> None:
    """Adds a file, as it is: weights do not get smaller by compression."""
    made = entry(name)
    made.file_size = file.stat().st_size
    with file.open("rb") as source, archive.open(made, "w") as target:
        while chunk := source.read(2**20):
            target.write(chunk)


def upload(repository: str, folder: Path, commit: str, private: bool) -> str:
    """Uploads the folder in one commit, compares hashes and returns the commit's address.

    Raises:
        BadInput: there is no token, or the Hub refuses or cannot be reached.
    """
    go_online()
    from huggingface_hub import CommitOperationAdd, HfApi, get_token
    from huggingface_hub.utils import disable_progress_bars, httpx

    disable_progress_bars()
    token = get_token()
    if not token:
        raise BadInput("the Hub needs a token with the right to write: set HF_TOKEN, or run `hf auth login`")
    api = HfApi(token=token)
    names = sorted(checksums(folder))
    try:
        api.create_repo(repository, private=private or None, exist_ok=True)
        done = api.create_commit(
            repository,
            [CommitOperationAdd(name, (folder / name).resolve()) for name in names],
            commit_message=f"The model of commit {commit}",
        )
        compare(api, repository, done.oid, folder)
    except (httpx.HTTPError, OSError, ValueError, RuntimeError) as error:
        cause = error.__cause__ or error
        said = " ".join(str(cause).split()).replace(token, "(the token)")
        raise BadInput(
            f"{repository}: the Hub at {api.endpoint} did not take it: {said[:300] or type(cause).__name__}; "
            "see whether the token may write there, and run the command again"
        ) from None
    return str(done.commit_url)


def compare(api: Any, repository: str, commit: str, folder: Path) -> None:
    """Compares what the Hub has at a commit with the files here.

    Raises:
        ValueError: a file is another one, or missing.
    """
    there = api.verify_repo_checksums(repository, revision=commit, local_dir=folder)
    if wrong := sorted({*(one["path"] for one in there.mismatches), *there.extra_paths}):
        raise ValueError(f"what arrived is not what was sent: {', '.join(wrong)}")


def main(arguments: Sequence[str]) -> int:
    """Hands the model on and returns the exit status."""
    parser = cli.make_parser("push", __doc__, "ship")
    parser.add_argument("repository", nargs="?", metavar="OWNER/NAME", help="the model repository; made if it is new")
    parser.add_argument("--bundle", metavar="FILE.zip", help="write a zip instead")
    parser.add_argument("--revision", metavar="REV", help="a branch, tag or commit; default: HEAD")
    parser.add_argument("--private", action="store_true", help="make a new repository a private one")
    parser.add_argument("--dry-run", action="store_true", help="say what would travel; nothing does")
    options = parser.parse_args(arguments)
    kept = "what the Hub has not confirmed is not there"
    return cli.answer("push", lambda repo: run(repo, options), BadInput, OSError, unanswered=1, interrupted=kept)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
