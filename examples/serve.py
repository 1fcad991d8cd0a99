"""Answers over HTTP with the finished model, by the standard library alone: an example to copy from.

    python -m examples.serve --port 8000
    curl --data '[{"word": "deer", "definition": "a wild animal"}]' http://127.0.0.1:8000/

A request is a list of rows with the model's text columns, the answer a list of what `ship.score` would say of these
rows as a file. One request is computed at a time, and only this machine is answered: there is no password.
docs/serving.md says more.
"""

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
from dvc.repo import Repo

from checks import cli
from ship.answers import AnswerColumns
from ship.input_rows import Portion
from ship.model import calibration_of, open_model
from stages.download.texts import joined
from stages.shared.runtime.arithmetic import prepare_for
from stages.shared.runtime.errors import BadInput
from stages.shared.runtime.execution import Execution
from stages.shared.runtime.params import read_params
from stages.shared.runtime.terminal import say

MOST_BYTES, MOST_ROWS = 2**20, 1000  # of a request
SECONDS = 30  # that a request may take to arrive: one that never ends would keep all others waiting


class Service:
    """A finished model that answers rows."""

    def __init__(self, repo: Any, revision: str | None, folder: Path) -> None:
        """Loads the model of a revision, None: the workspace; `folder` is empty, and lives as long as the service."""
        (folder / "model").mkdir()
        self.model = open_model(repo, revision, folder / "model")
        calibration = calibration_of(self.model.revision, folder)
        self.answers = AnswerColumns(self.model.task, calibration, "", probabilities=False, logits=False)
        prepare_for(self.model.params["predict"].get("arithmetic"))
        from ship.scoring import Scorer  # here, for it imports torch

        self.scorer = Scorer(
            self.model, read_params("execution", Execution, Path(repo.root_dir, "params.yaml")), folder
        )

    def answer(self, rows: Any) -> list[dict[str, Any]]:
        """Returns what is said of each row.

        Raises:
            BadInput: they are no rows, or one lacks a text.
        """
        columns = self.model.text_columns
        if not isinstance(rows, list) or not 0 < len(rows) <= MOST_ROWS:
            raise BadInput(f"expected a list of 1 to {MOST_ROWS} rows, each an object with {' and '.join(columns)}")
        for number, row in enumerate(rows, 1):
            for names in self.model.texts:
                parts = [row.get(name) if isinstance(row, dict) else None for name in names]
                texts = [part for part in parts if isinstance(part, str) and part.strip()]
                if not texts or not all(isinstance(part, str | None) for part in parts):
                    raise BadInput(f"row {number}: no text in {' or '.join(map(repr, names))}")
        try:
            cells = {name: pa.array([row.get(name) for row in rows], pa.string()) for name in columns}
            whole = (joined([cells[name] for name in names]) for names in self.model.texts)
            batch = pa.record_batch(dict(zip(("text", "text_pair"), whole, strict=False)))
        except UnicodeEncodeError:
            raise BadInput("a text holds half a character (a lone surrogate)") from None
        logits, answered = self.scorer.window([Portion(batch, batch)], "the request", "error")
        return list(self.answers(logits, answered).to_pylist())


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    timeout = SECONDS
    service: Service

    def do_GET(self) -> None:
        """Says which model answers, for whoever watches whether it does."""
        model = self.service.model
        self._say(
            200,
            {"commit": model.revision.commit, "columns": model.text_columns, "labels": model.task.label_names},
        )

    def do_POST(self) -> None:
        """Answers rows."""
        try:
            size = int(self.headers["Content-Length"] or -1)
            if not 0 <= size <= MOST_BYTES:
                raise BadInput(f"expected a Content-Length of at most {MOST_BYTES} bytes")
            self._say(200, self.service.answer(json.loads(self.rfile.read(size))))
        except (BadInput, ValueError, RecursionError) as error:  # what is no JSON is a ValueError
            self._say(400, {"error": str(error)})

    def _say(self, status: int, content: Any) -> None:
        body = json.dumps(content, ensure_ascii=False).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
        """Writes no log: addresses and texts are for their owners."""


def main(arguments: Sequence[str]) -> int:
    """Serves until it is stopped, and returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m examples.serve", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--port", type=int, default=8000, help="0: any that is free")
    parser.add_argument("--revision", metavar="REV", help="the model of a branch, tag or commit")
    options = parser.parse_args(arguments)
    with Repo() as repo, tempfile.TemporaryDirectory(prefix="serve-") as folder:
        Handler.service = Service(repo, options.revision, Path(folder))
        with HTTPServer(("127.0.0.1", options.port), Handler) as server:
            say(f"serve: http://127.0.0.1:{server.server_port}/")
            server.serve_forever()
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        sys.exit(main(sys.argv[1:]))
    except (cli.Unanswerable, BadInput, OSError) as problem:
        sys.exit(f"serve: {problem}")
    except KeyboardInterrupt:
        sys.exit(130)
