"""examples/serve.py, started on loopback and asked: it says what ship.score says, and bad requests do not stop it."""

import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from examples import serve
from ship import score
from ship.model import FinishedModel
from stages.shared.task.task import Task
from tests.shipped import make_shipped

ROOT = Path(__file__).parents[1]


def ask(address: str, body: bytes | None, headers: Mapping[str, str] = {}) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(urllib.request.Request(address, body, dict(headers)), timeout=60) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def test_a_request_is_answered_as_a_file_of_its_rows_would_be(
    tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = make_shipped(tmp_path / "pairs", tiny_checkpoint, "single_label_classification", pairs=True, examples=8)
    monkeypatch.chdir(shipped.folder)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in shipped.rows))
    assert score.main([str(tmp_path / "rows.jsonl"), "--out", str(tmp_path / "out.jsonl"), "--prefix", ""]) == 0
    scored = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {START}", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            address = server.stdout.readline().removeprefix("serve: ").strip()
            status, said = ask(address, None)
            assert (status, said["columns"], said["labels"]) == (200, ["first", "second"], ["no", "=yes"])
            bad = {
                b"{": "Expecting property name",
                b"[]": "expected a list of 1 to 1000 rows, each an object with first and second",
                b'[{"first": "a", "second": "b"}, {"first": "a"}]': "row 2: no text in 'second'",
                b'[{"first": "a", "second": "\\ud800"}]': "half a character",
                b"[" * 100_000: "",
            }
            for body, why in bad.items():
                status, said = ask(address, body)
                assert status == 400 and why in said["error"], body[:50]
            status, said = ask(address, b"[]", {"Content-Length": str(2**20 + 1)})
            assert status == 400 and "a Content-Length of at most 1048576 bytes" in said["error"]
            status, said = ask(address, json.dumps(shipped.rows).encode())
            assert (status, said) == (200, [{name: row[name] for name in ("label", "probability")} for row in scored])
        finally:
            server.terminate()
    assert server.returncode == 0


def test_a_column_of_both_texts_is_named_once(monkeypatch: pytest.MonkeyPatch) -> None:
    download = {"dataset": "files", "text_column": ["title", "body"], "text_pair_column": ["title", "answer"]}
    revision: Any = SimpleNamespace(commit="0")
    task = Task("files", "regression", [], metrics=[], source="", revision="")
    model = FinishedModel(revision, Path(), task, 8, {"download": download})
    said: list[Any] = []
    monkeypatch.setattr(serve.Handler, "_say", lambda _, status, content: said.append(content))
    monkeypatch.setattr(serve.Handler, "service", SimpleNamespace(model=model), raising=False)
    serve.Handler.__new__(serve.Handler).do_GET()
    assert said == [{"commit": "0", "columns": ["title", "body", "answer"], "labels": []}]


START = "import runpy; runpy.run_module('examples.serve', run_name='__main__')"
