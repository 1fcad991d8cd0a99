"""Makes a new project from this repository: with the code, the workflows and your data, and without results.

    python -m checks.new ../tickets --data tickets.csv --text ticket --label topic --keep-data dvc

tunelock's README, log, sample, results and history stay behind. Your data are copied to data/own, which Git ignores, so
no `git add .` publishes them. With `--keep-data dvc`, DVC tracks them (`dvc add`), and you can push them to a remote.
With `--keep-data ignored`, nothing tracks them. The project records its origin for `python -m checks.upgrade`.
Exit status: 0; 1 with one line on stderr if the project cannot be made.
"""

import argparse
import csv
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from checks import cli
from checks.params_text import with_values, without_rules
from checks.upstream import (
    NOBODY,
    RECORD,
    ProjectOrigin,
    code_tree,
    git,
    read_origin,
    refuse_part_of_repository,
    write_origin,
)
from stages.shared.runtime.terminal import say

OWN = "data/own"
KEEP = {
    "dvc": f"DVC tracks them (`dvc add {OWN}`). Git has their hash, and `dvc push` copies them to your remote.",
    "ignored": "They are not tracked and exist only on this machine.",
}
README = """\
# {title}

{task}

```console
$ make repro                       # installs the pinned packages, then runs what has changed
$ source .venv/bin/activate
$ python -m checks.why             # what would run, and why, before it runs
$ python -m ship.score new.csv      # labels for new texts
$ python -m checks.compare main    # this branch against main
$ python -m checks.gate            # the rules in params.yaml's `gate`
$ python -m checks.verify          # does HEAD reproduce?
$ make test-project                # do dvc.yaml, params.yaml and the stages still fit together?
$ make upgrade                     # a newer tunelock
```

The data are in `{own}`. Git ignores that folder.
{kept}

All knobs are in [params.yaml](params.yaml). A run ends with `metrics/report.html` and the model in `models/finetuned`:

```python
from transformers import pipeline

classify = pipeline("text-classification", "models/finetuned")
classify({example}, truncation=True)
```

More: [continuous integration](docs/ci.md), [sweeps and remotes](docs/sharing.md), [help](docs/troubleshooting.md).

The pipeline is tunelock's, from {upstream}, under [its own licence](LICENSE.tunelock). `{record}` says which commit.
"""


def make_project(source: Path, target: Path, options: argparse.Namespace) -> None:
    """Makes the project and commits it.

    Raises:
        Unanswerable: there is something in its place, or the data are not there or lack a column.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise cli.Unanswerable(f"{target}: already exists; name a new or empty folder")
    data = check_data(options)
    refuse_part_of_repository(source)
    commit = git(source, "rev-parse", "HEAD")
    target.mkdir(parents=True, exist_ok=True)
    unpack(source, code_tree(source, commit), target)
    origin = read_origin(source) or ProjectOrigin(upstream_of(source), commit)
    write_origin(target, origin)
    (target / ".dvc" / "config").write_text("[core]\n    analytics = false\n    check_update = false\n")
    place = bring_data(data, target)
    set_params(target / "params.yaml", place, data, options)
    (target / "README.md").write_text(readme(target.resolve().name, origin, options), encoding="utf-8")
    git(target, "init", "--quiet", "--initial-branch=main")
    ignored = target / "data" / ".gitignore"
    ignored.write_text(f"{ignored.read_text(encoding='utf-8').rstrip()}\n/own\n", encoding="utf-8")
    if options.keep_data == "dvc" and data is not None:
        add = [sys.executable, "-m", "dvc", "add", "--quiet", OWN]
        done = subprocess.run(add, cwd=target, capture_output=True, text=True)
        if done.returncode:
            raise cli.Unanswerable(f"dvc add {OWN}: {' '.join(done.stderr.split())}")
    git(target, "add", "--all")
    has_name = subprocess.run(["git", "config", "user.email"], cwd=target, capture_output=True).returncode == 0
    message = f"A project of its own, from tunelock {origin.commit[:12]}"
    git(target, "commit", "--quiet", "--message", message, **({} if has_name else NOBODY))


def check_data(options: argparse.Namespace) -> Path | None:
    """Returns where the data are that are to be brought, None for none; a csv must have the columns that were named."""
    if options.data is None:
        return None
    data = Path(options.data)
    if not data.exists():
        raise cli.Unanswerable(f"{data}: not found; name a file or a folder")
    if data.suffix in (".csv", ".tsv"):
        with data.open(encoding="utf-8-sig", newline="") as stream:
            header = next(csv.reader(stream, delimiter="\t" if data.suffix == ".tsv" else ","), [])
        for option, column in (("text", options.text), ("pair", options.pair), ("label", options.label)):
            if column is not None and column not in header:
                columns = ", ".join(header) or "none"
                raise cli.Unanswerable(f"{data}: no column {column!r} (--{option}), only {columns}")
    return data


def unpack(source: Path, tree: str, target: Path) -> None:
    """Writes the files of a Git tree into a folder."""
    command = ["git", "archive", "--format=tar", tree]
    with (
        subprocess.Popen(command, cwd=source, stdout=subprocess.PIPE) as archive,
        tarfile.open(fileobj=archive.stdout, mode="r|") as files,
    ):
        files.extractall(target, filter="data")


def upstream_of(source: Path) -> str:
    """Returns where a newer tunelock will be: at this clone's remote if that has this commit, else in this folder."""
    try:
        address = git(source, "remote", "get-url", "origin")
        known = git(source, "branch", "--remotes", "--contains", "HEAD")
    except cli.Unanswerable:
        return str(source)
    if not known:
        return str(source)
    path = source / address
    return str(path.resolve()) if path.exists() else address


def bring_data(data: Path | None, target: Path) -> str:
    """Copies the data into the project and returns what `download.dataset_files` is to be."""
    own = target / OWN
    if data is None or data.is_dir():
        shutil.copytree(data, own) if data else own.mkdir()
        return OWN
    own.mkdir()
    shutil.copy(data, own)
    return f"{OWN}/{data.name}"


def set_params(file: Path, place: str, data: Path | None, options: argparse.Namespace) -> None:
    """Makes params.yaml ask for the project's own data; all else stays as tunelock has it."""
    text = file.read_text(encoding="utf-8")
    download = {
        "dataset": "files",
        "dataset_files": place,
        "split_files": None,
        "dataset_revision": None,
        "problem_type": "single_label_classification",
        "text_column": options.text,
        "text_pair_column": options.pair,
        "label_column": options.label,
        "label_names": None,
        "label_delimiter": None,
        "group_column": None,
        "keep_columns": [],
        "metrics": ["f1_macro", "accuracy"],
        "validation_fraction": 0.1 if data is not None and data.is_file() else None,
        "test_fraction": None,
        "on_empty": "error",
        "on_unlabelled": "error",
    } | dict.fromkeys(("label_aliases", "id_column", "fold", "train_fraction"))
    text = with_values(text, "download", download)
    text = with_values(text, "train", {"class_weights": None})
    off = dict.fromkeys(("thresholds", "costs", "error_rate"))
    text = with_values(text, "calibrate", {"split": "validation"} | off)
    text = with_values(text, "evaluate", {"splits": ["validation"], "metrics": [], "per_class": False})
    text = with_values(text, "report", {"slice_columns": None})
    file.write_text(without_rules(text), encoding="utf-8")


def readme(title: str, origin: ProjectOrigin, options: argparse.Namespace) -> str:
    """Writes the project's own README."""
    texts = f"`{options.text}` and `{options.pair}`" if options.pair else f"`{options.text}`"
    example = '{"text": "The first text.", "text_pair": "The second text."}' if options.pair else '"A text."'
    return README.format(
        title=title,
        task=f"Predicts `{options.label}` from {texts}, with a transformer that is fine-tuned as a DVC pipeline.",
        own=OWN,
        kept=KEEP[options.keep_data],
        example=example,
        upstream=origin.upstream,
        record=RECORD,
    )


def ask_how_to_keep() -> str:
    """Asks whoever is at the terminal; elsewhere nothing leaves this machine."""
    if not sys.stdin.isatty():
        return "ignored"
    say("How should your data be kept? Git never keeps them.")
    for name, meaning in KEEP.items():
        say(f"  {name}: {meaning}")
    while (answer := input("dvc or ignored? ").strip()) not in KEEP:
        pass
    return answer


def main(arguments: Sequence[str]) -> int:
    """Makes the project, says what to do next and returns the exit status."""
    parser = cli.make_parser("new", __doc__)
    parser.add_argument("folder", help="the folder for the project; new or empty")
    parser.add_argument("--data", help="your data, which are copied: a file, or a folder with a file for each split")
    parser.add_argument("--text", default="text", help="the column with the text; default: text")
    parser.add_argument("--pair", help="the column with the second text, if there are two")
    parser.add_argument("--label", default="label", help="the column with the label; default: label")
    parser.add_argument(
        "--keep-data", choices=list(KEEP), help="who keeps your data; without this option, you are asked"
    )
    options = parser.parse_args(arguments)
    options.keep_data = options.keep_data or ask_how_to_keep()
    target = Path(options.folder)

    def ask(repo: Any) -> int:
        make_project(Path(repo.root_dir), target, options)
        say(f"new: {target}, one commit on main. Your data are in {OWN}. {KEEP[options.keep_data]}")
        if options.data is None:
            say(f"Next: put your data into {target}/{OWN} and name their columns in params.yaml: download.")
        say(f"Next: cd {target} && make repro")
        return 0

    return cli.answer("new", ask, OSError, unanswered=1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
