"""The README's examples of one's own data: each trains, from exactly the lines that it shows."""

import csv
import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from ruamel.yaml import YAML

from stages.shared.task.task import read_task
from tests.project import STAGES, Project

ROOT = Path(__file__).parents[1]
SECTION = re.compile(r"## Your own data\n(.*?)\n## ", re.DOTALL)
EXAMPLES = re.findall(
    r"```yaml\n(.*?)```", (SECTION.search((ROOT / "README.md").read_text(encoding="utf-8")) or [""] * 2)[1], re.DOTALL
)
MOODS = ("bad", "mixed", "good")
TOPICS = ("billing", "login", "speed")
INBOX = ["Billing", "Größe", "Login", "other", "speed", "Отзыв"]


def write_reviews(folder: Path) -> None:
    rows = [f'"It was {MOODS[number % 3]}, day {number}",{MOODS[number % 3]}' for number in range(60)]
    (folder / "reviews.csv").write_text("\n".join(["review,mood", *rows]) + "\n", encoding="utf-8")


def write_tickets(folder: Path) -> None:
    (folder / "tickets").mkdir()
    for split, size in (("train", 40), ("validation", 12)):
        topics = [[topic for place, topic in enumerate(TOPICS) if number >> place & 1] for number in range(size)]
        rows = [json.dumps({"text": f"{split} {n} {found}", "topics": found}) for n, found in enumerate(topics)]
        (folder / "tickets" / f"{split}.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")


def write_similarity(folder: Path) -> None:
    (folder / "similarity").mkdir()
    for month, start in (("2024-01", 0), ("2024-02", 20), ("2025-01", 40)):
        numbers = range(start, start + 20)
        columns = {
            "sentence1": [f"a dog ran {number} times" for number in numbers],
            "sentence2": [f"it ran {number} times" for number in numbers],
            "score": [number / 8 for number in numbers],
        }
        pyarrow.parquet.write_table(pa.table(columns), folder / "similarity" / f"{month}.parquet")


def write_inbox(folder: Path) -> None:
    """Six classes of very different sizes, with all that people's files have: gaps, repetitions, typing errors."""
    sizes = {"Billing": 180, "Login": 45, "Größe": 30, "speed": 24, "Отзыв": 12, "other": 9}
    names = [name for name, size in sizes.items() for _ in range(size)]
    rows = [
        (f"T-{number:03}", f"Ticket {number}", f"{name} is broken\non day {number}. " * (1 + number % 40), name)
        for number, name in enumerate(names)
    ]
    rows += [
        ("T-900", "", "", "Billing"),
        ("T-901", "A title alone", "", " billing "),
        ("T-902", "Who?", "cares", "N/A"),
    ]
    rows += [("T-903", *rows[0][1:]), ("T-904", "Biling again", 'she said "no"', "biling")]
    with (folder / "inbox.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([("id", "title", "body", "topic"), *rows])


CASES: dict[str, tuple[Callable[[Path], None], list[str], list[str]]] = {
    "reviews.csv": (write_reviews, ["bad", "good", "mixed"], ["accuracy", "f1_macro"]),
    "tickets": (write_tickets, ["billing", "login", "speed"], ["f1_macro", "f1_micro"]),
    "similarity": (write_similarity, [], ["pearson", "spearmanr"]),
    "inbox.csv": (write_inbox, INBOX, ["f1_macro", "balanced_accuracy"]),
}


@pytest.mark.release
def test_every_example_is_run() -> None:
    assert [YAML(typ="safe", pure=True).load(text)["download"]["dataset_files"] for text in EXAMPLES] == list(CASES)


def follow(example: str, case: str, project: Project, tiny_checkpoint: Path) -> None:
    """Does what an example says, for one epoch of the tiny checkpoint."""
    CASES[case][0](project.folder)
    shutil.copytree(tiny_checkpoint, project.folder / "data" / "tiny")
    sections: dict[str, Any] = YAML(typ="safe", pure=True).load(example)
    project.set(
        **{f"{name}__{key}": value for name, section in sections.items() for key, value in section.items()},
        download__checkpoint="files",
        download__checkpoint_files="data/tiny",
        train__epochs=1,
    )


@pytest.mark.slow
@pytest.mark.release
@pytest.mark.parametrize(("example", "case"), list(zip(EXAMPLES, CASES, strict=False)))
def test_an_example_of_the_readme_trains(example: str, case: str, project: Project, tiny_checkpoint: Path) -> None:
    _, names, metrics = CASES[case]
    follow(example, case, project, tiny_checkpoint)
    assert project.repro() == list(STAGES)
    assert read_task(project.folder / "data" / "raw" / "task.json").label_names == names
    scores = json.loads(project.read("metrics/metrics.json"))["validation"]
    assert set(metrics) < set(scores)
    assert project.repro() == []


@pytest.mark.exhaustive
@pytest.mark.release
def test_what_a_dirty_file_lost_is_counted_and_its_ids_stay(project: Project, tiny_checkpoint: Path) -> None:
    follow(EXAMPLES[3], "inbox.csv", project, tiny_checkpoint)
    project.repro()
    facts = json.loads(project.read("metrics/data.json"))
    assert [record["examples"] for record in facts["dropped"]] == [1, 1]
    ids = list(csv.DictReader(project.read("data/predictions/validation/ids.csv").splitlines()))
    assert len(ids) == json.loads(project.read("metrics/metrics.json"))["validation"]["examples"]
    assert all(row["id"].startswith("T-") for row in ids)
    assert any(f"id <bdi>{row['id']}</bdi>" in project.read("metrics/report.html") for row in ids)
    done = project.run("python", "-m", "ship.score", "inbox.csv", "--on-empty", "skip")
    assert len(list(csv.DictReader(io.StringIO(done.stdout)))) == 305
