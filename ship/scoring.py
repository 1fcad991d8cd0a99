"""Logits of new texts, by the code of `tokenize` and `predict`: the same cuts, batches and arithmetic."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
from datasets import Features, load_from_disk

from ship.input_rows import Portion, without_text
from ship.model import FinishedModel
from stages.predict.predict import Predictor, PredictParams
from stages.shared.model import batches
from stages.shared.runtime.errors import BadInput
from stages.shared.runtime.execution import Execution
from stages.shared.runtime.params import fill_section
from stages.shared.runtime.splits import WindowLogits, add_split
from stages.tokenize.checkpoint import load_tokenizer
from stages.tokenize.tokenize import Place, input_names, portions, token_features, tokenize_rows


@dataclass
class ScoringCounts:
    """What was done so far."""

    rows: int = 0
    skipped: int = 0  # rows without text
    cut: int = 0  # rows with more tokens than the model was trained on


@dataclass
class _Window:
    """Which rows of a window are scored, noted as they come by."""

    first: int  # the number of rows before it
    on_empty: str
    answered: list[np.ndarray] = field(default_factory=list)

    def texts(self, rows: Iterable[Portion]) -> Iterator[pa.RecordBatch]:
        """Yields the texts that are to be scored."""
        for portion in rows:
            if self.on_empty == "skip":
                kept = ~without_text(portion.texts, blank=True).to_numpy(zero_copy_only=False)
            else:
                kept = np.ones(portion.texts.num_rows, dtype=bool)
            self.answered.append(kept)
            yield portion.texts.filter(pa.array(kept))

    def mask(self) -> np.ndarray:
        """Says which rows are scored: bool[rows that came by]."""
        return np.concatenate(self.answered)

    def row(self, place: int) -> int:
        """Returns the number in the file of a row that is scored."""
        return self.first + int(np.flatnonzero(self.mask())[place]) + 1


class Scorer:
    """A finished model, ready to compute."""

    def __init__(self, model: FinishedModel, execution: Execution, scratch: Path) -> None:
        """Loads it.

        Args:
            scratch: a folder for the tokens of a window.

        Raises:
            BadInput: it is not whole.
        """
        os.environ["RAYON_NUM_THREADS"] = str(execution.workers)  # their number changes no byte
        self.model, self.scratch = model, scratch
        place = f"{model.revision.name}: dvc.lock: predict"
        self.params = fill_section(PredictParams, model.params["predict"], place)
        self.tokenizer, self.config = load_tokenizer(model.folder, model.max_length)
        self.cut = model.cut
        self.window_logits: WindowLogits = model.params["tokenize"].get("window_logits", "mean")
        names = input_names(self.tokenizer, self.config)
        self.features = token_features(names, Features({}), windows=self.cut.in_windows)
        self.compute = Predictor(self.params, execution.device, model.folder)
        self.counts = ScoringCounts()

    def windows(self, rows: int) -> list[int]:
        """Returns the sizes of the windows that a file of so many rows is scored in: those of `predict`."""
        return [min(batches.WINDOW, rows - start) for start in range(0, rows, batches.WINDOW)]

    def window(self, rows: Iterable[Portion], place: str, on_empty: str) -> tuple[np.ndarray, np.ndarray]:
        """Scores the rows of the next window.

        Args:
            place: the file, for messages.
            on_empty: skip or something else; where it is skip, rows without text are not scored.

        Returns:
            The logits, float32[scored rows, columns], and which rows those are, bool[rows].
        """
        window = _Window(self.counts.rows, on_empty)
        where = Place(place, "", self.model.folder, window.row)
        texts = portions_of(window.texts(rows))
        tokens = self.scratch / "tokens"
        with add_split(tokens, "rows", self.features) as write:
            found = tokenize_rows(self.tokenizer, self.config, self.features, texts, self.cut, place=where)
            for tokenized, was_cut in found:
                write(pa.Table.from_batches([tokenized]))
                self.counts.cut += int(was_cut.sum())
        split = load_from_disk(tokens / "rows")
        pieces = batches.Pieces(split)
        logits = np.empty((len(pieces), self.model.task.columns), dtype=np.float32)
        for numbers, values in self.compute(split, pieces.batches(self.params.token_budget)):
            logits[numbers] = values
        if self.cut.in_windows:
            logits = np.concatenate([*pieces.of_rows(logits, self.window_logits), logits[:0]])
        answered = window.mask()
        if not np.isfinite(logits).all():
            row = window.row(int(np.flatnonzero(~np.isfinite(logits).all(axis=1))[0]))
            raise BadInput(f"{place}: row {row}: the model's answer is no number; its weights may be damaged")
        self.counts.rows += len(answered)
        self.counts.skipped += int((~answered).sum())
        return logits, answered


def portions_of(texts: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yields the rows in portions that `tokenize` would take."""
    for batch in texts:
        if batch.num_rows:
            yield from portions([batch], batch.num_rows)
