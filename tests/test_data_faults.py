"""tests/faults.md, the part on data: what is wrong with the user's files is said in one line, as the page has it."""

import gzip
import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet
import pytest

from stages.shared.runtime.errors import BadInput
from tests.tables import MULTI, ROWS, write_csv, write_jsonl, write_parquet

ROOT = Path(__file__).parents[1]
PART = "## When the data are not clean"
CSV = ROWS[:4]


class Case(NamedTuple):
    """How a fault is brought about."""

    lay: Callable[[Path], object]  # writes into the folder of the data, which already has a validation.csv
    changes: Mapping[str, Any] = MappingProxyType({})  # in params.yaml: download


def file(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


def made_by_stages(folder: Path) -> None:
    shutil.copy(ROOT / "dvc.yaml", folder.parent)
    shutil.copy(ROOT / "tests" / "params.yaml", folder.parent)


def link_to_a_folder(folder: Path) -> None:
    (folder.parent / "elsewhere").mkdir()
    write_csv(folder.parent / "elsewhere" / "part.csv", CSV)
    (folder / "train").symlink_to(folder.parent / "elsewhere")


def ignored(pattern: str) -> Callable[[Path], object]:
    def lay(folder: Path) -> None:
        write_csv(folder / "train.csv", CSV)
        (folder.parent / ".dvcignore").write_text(f"{pattern}\n")

    return lay


def ignore_file_inside(folder: Path) -> None:
    write_csv(folder / "train.csv", CSV)
    (folder / ".dvcignore").write_text("*.bak\n")


def project_inside(folder: Path) -> None:
    (folder / "train" / ".dvc").mkdir(parents=True)
    write_csv(folder / "train" / "part.csv", CSV)


def saved_list_that_leads_out(folder: Path) -> None:
    write_parquet(folder.parent / "other.parquet", CSV)
    (folder / "train").mkdir()
    (folder / "train" / "state.json").write_text(json.dumps({"_data_files": [{"filename": "../../other.parquet"}]}))


def not_utf8(folder: Path) -> None:
    texts = pa.Array.from_buffers(pa.string(), 2, [None, *pa.array([b"Gr\xf6\xdfe", b"x"], pa.binary()).buffers()[1:]])
    pyarrow.parquet.write_table(pa.table({"a": texts, "b": ["u", "v"], "y": [0, 1]}), folder / "train.parquet")


def not_utf8_in_arrow(folder: Path) -> None:
    texts = pa.Array.from_buffers(pa.string(), 2, [None, *pa.array([b"Gr\xf6\xdfe", b"x"], pa.binary()).buffers()[1:]])
    table = pa.table({"a": texts, "b": ["u", "v"], "y": [0, 1]})
    with pa.OSFile(str(folder / "train.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def csv_with(*rows: str, name: str = "train.csv") -> Callable[[Path], object]:
    return file(name, "\n".join(["a,b,y", *rows, ""]).encode())


def both(train: Callable[[Path], object], validation: str) -> Callable[[Path], object]:
    """Lays a validation split, too, in place of the usual one."""

    def lay(folder: Path) -> None:
        train(folder)
        (folder / "validation.csv").write_text(validation, encoding="utf-8")

    return lay


OPEN_QUOTE = ('"one,x,0', "two,x,1", "three,x,0", '"four",x,1', "five,x,0")
DIRTY = ("one,x,0", ",x,1", "three,x,", "four,x,2", ",y,0", "six,x,")
CASES = {
    "a split is a link to a folder": Case(link_to_a_folder),
    "a line of .dvcignore matches a file": Case(ignored("*.csv")),
    "a line of .dvcignore matches the folder": Case(ignored("data")),
    "a .dvcignore lies in the data": Case(ignore_file_inside),
    "a DVC project lies in the data": Case(project_inside),
    "a saved dataset lists a file outside of the folder": Case(saved_list_that_leads_out),
    "the data are what a stage writes": Case(made_by_stages, {"dataset_files": "data"}),
    "the checkpoint is what a stage writes": Case(
        made_by_stages, {"dataset_files": "mine", "checkpoint_files": "models/finetuned"}
    ),
    "a quote is not closed, and a later one closes it": Case(csv_with(*OPEN_QUOTE)),
    "a quote is never closed": Case(csv_with('"one,x,0', "two,x,1")),
    "a quote closes in the middle of a cell": Case(csv_with("one,x,0", '"two" and more,x,1')),
    "a quote is escaped by a backslash": Case(csv_with('"she said \\"no\\"",x,0', "two,x,1")),
    "the same in a compressed file": Case(file("train.csv.gz", gzip.compress(b'a,b,y\n"one\\"s",x,0\n'))),
    "the header line comes again": Case(csv_with("one,x,0", "two,x,1", "a,b,y", "three,x,0")),
    "the header line comes again, and classes are texts": Case(
        both(csv_with("one,x,p", "a,b,y", "two,x,q"), "a,b,y\nthree,x,p\n"), {"label_names": None}
    ),
    "many things are wrong at once": Case(csv_with(*DIRTY)),
    "the same, and rows have ids": Case(
        both(
            file("train.csv", b"id,a,b,y\nr1,one,x,0\nr2,,x,1\nr3,three,x,\nr4,four,x,2\n"), "id,a,b,y\nr5,five,x,7\n"
        ),
        {"id_column": "id"},
    ),
    "two things are wrong with one row": Case(csv_with("one,x,0", ",x,", "three,x,1")),
    "a label is a typing error": Case(
        both(csv_with("one,x,Billing", "two,x,login", "three,x,biling"), "a,b,y\nfour,x,login\n"),
        {"label_names": ["Billing", "login"]},
    ),
    "a label is in validation alone": Case(
        both(csv_with("one,x,p", "two,x,q"), "a,b,y\nthree,x,r\n"), {"label_names": None}
    ),
    "labels are missing in lists": Case(
        lambda folder: [
            write_jsonl(folder / f"{split}.jsonl", [("x", split, ["p", None]), ("u", "v", ["q"])])
            for split in ("train", "validation")
            if not (folder / f"{split}.csv").unlink(missing_ok=True)
        ],
        MULTI,
    ),
    "an alias leads to an alias": Case(csv_with("one,x,0"), {"label_aliases": {"p": "q", "q": "r"}}),
    "the ids' column is missing": Case(csv_with("one,x,0"), {"id_column": "id"}),
    "one of several columns of a text is missing": Case(csv_with("one,x,0"), {"text_column": ["a", "title"]}),
    "a column is named twice": Case(csv_with("one,x,0"), {"text_column": ["a", "a"]}),
    "all rows are left out": Case(csv_with(",x,0", " ,x,1"), {"on_empty": "drop"}),
    "parquet text is not UTF-8": Case(not_utf8),
    "Arrow text is not UTF-8": Case(not_utf8_in_arrow),
    "a csv is UTF-16": Case(file("train.csv", "a,b,y\none,x,0\n".encode("utf-16"))),
    "a csv is UTF-16 without a mark": Case(file("train.csv", "a,b,y\none,x,0\n".encode("utf-16-le"))),
    "a jsonl is UTF-16": Case(file("train.jsonl", '{"a": "one", "b": "x", "y": 0}\n'.encode("utf-16"))),
    "a tsv is UTF-16": Case(file("train.tsv", "a\tb\ty\none\tx\t0\n".encode("utf-16"))),
    "a csv is compressed, and its name does not say so": Case(file("train.csv", gzip.compress(b"a,b,y\none,x,0\n"))),
    "a jsonl is compressed, and its name does not say so": Case(file("train.jsonl", gzip.compress(b"{}\n"))),
    "a csv is a spreadsheet": Case(file("train.csv", b"PK\x03\x04" + bytes(range(256)))),
    "a csv is not compressed, and its name says so": Case(file("train.csv.gz", b"a,b,y\none,x,0\n")),
    "a cell is larger than 16 MiB": Case(csv_with(f'"{"x" * 2**24} ",x,0')),
    "a cell of many lines is larger than 16 MiB": Case(csv_with('"' + f"{'x' * 2**20}\n" * 17 + '",x,0')),
    "a cell without quotes is larger than 16 MiB": Case(csv_with(f"{'x' * 2**24},x,0")),
    "a text is nested thousands deep": Case(
        file("train.jsonl", b'{"a": ' + b"[" * 9000 + b"]" * 9000 + b', "b": "x", "y": 0}\n')
    ),
    "a label is nested hundreds deep": Case(
        file("train.jsonl", b'{"a": "one", "b": "x", "y": ' + b"[" * 300 + b"]" * 300 + b"}\n")
    ),
}


def rows() -> dict[str, str]:
    """Returns what the page says is seen, by fault."""
    part = (ROOT / "tests" / "faults.md").read_text(encoding="utf-8").partition(PART)[2].partition("\n## ")[0]
    lines = [line for line in part.splitlines() if line.startswith("| ") and not line.startswith(("| fault", "| --- "))]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return {fault: seen.strip("`").strip() for fault, seen in cells}


def seen(case: Case, run_download: Callable[..., Any], tmp_path: Path) -> str:
    """Brings a fault about, and returns the message that it ends with."""
    write_csv(tmp_path / "data" / "validation.csv", ROWS[4:8])
    case.lay(tmp_path / "data")
    with pytest.raises(BadInput) as raised:
        run_download(**case.changes)
    assert "\n" not in str(raised.value)
    return str(raised.value).replace(f"{tmp_path}/", "")


def test_the_page_and_the_tests_know_the_same_faults_of_data() -> None:
    assert list(rows()) == list(CASES)


@pytest.mark.parametrize("fault", CASES)
def test_what_is_wrong_with_the_data_is_said_as_the_page_has_it(
    fault: str, run_download: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert seen(CASES[fault], run_download, tmp_path) == rows()[fault]
