"""The rows of files of texts, with all that stands beside the texts; read several times over and never held whole."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from stages.download.column_types import is_text
from stages.download.readers import (
    KNOWN_FORMATS,
    TEXT_FORMATS,
    file_format,
    header_of,
    in_one_line,
    json_lines,
    open_typed,
    plain,
    read_rows,
    text_array,
)
from stages.download.source import BATCH_ROWS, Labelling
from stages.download.texts import is_blank, joined
from stages.shared.runtime.errors import BadInput

LINE = "line"  # the one column of the own columns of jsonl
NAMED = 5  # rows that a message names
BATCH_BYTES = 2**24  # of lines of jsonl
TYPES = {str: pa.string(), bool: pa.bool_(), int: pa.int64(), float: pa.float64()}
WHOLE = 2**63  # what a column of whole numbers cannot hold any more


@dataclass(frozen=True)
class Portion:
    """Some rows."""

    own: pa.RecordBatch  # the columns of the file as they are; of jsonl the lines
    texts: pa.RecordBatch  # `text` and, for pairs, `text_pair`: string, null where there is none
    objects: Sequence[Mapping[str, Any]] = ()  # of jsonl, what the lines hold
    first: int = 0  # the number of rows before these

    def cut(self, start: int, stop: int) -> "Portion":
        """Returns some of the rows."""
        size = stop - start
        own, texts = self.own.slice(start, size), self.texts.slice(start, size)
        return Portion(own, texts, self.objects[start:stop], self.first + start)


@dataclass(frozen=True)
class Survey:
    """What a first look at all rows told."""

    rows: int
    own: pa.Schema  # the columns; of jsonl those that the objects have between them
    facts: tuple[tuple[int, int], ...]  # size and time of each file


class InputFiles:
    """One or more files of one format; rows are numbered from 1, on from file to file."""

    def __init__(self, files: Sequence[Path], texts: Sequence[Sequence[str]], asked_by: str) -> None:
        """Looks at their names and headers.

        Args:
            texts: for the text, and the second one of pairs, the columns that it is joined from.
            asked_by: who named the columns, for messages.

        Raises:
            BadInput: a file is not there, of no known format, or lacks a column; or they are not alike.
        """
        self.files, self.texts, self.asked_by = list(files), [list(columns) for columns in texts], asked_by
        self.text_columns = list(dict.fromkeys(name for columns in texts for name in columns))
        for file in self.files:
            if not file_format(file):
                raise BadInput(
                    f"{file}: the name says no format; expected {KNOWN_FORMATS}, the first three also with .gz, "
                    f"or `--from FORMAT - < {file}`"
                )
            if not file.is_file():
                raise BadInput(f"{file}: no such file")
            if file_format(file) != self.format:
                raise BadInput(f"{file}: not of the format of {self.files[0]}; score files of one format at a time")
        self.place = str(files[0]) if len(files) == 1 else f"{files[0]} and {len(files) - 1} more"
        if self.format != "jsonl":
            schemas = [self._schema(file) for file in self.files]
            for file, schema in zip(self.files, schemas, strict=True):
                if not schema.equals(schemas[0]):
                    raise BadInput(f"{file}: its columns are not those of {self.files[0]}; bring them to one")

    @property
    def format(self) -> str:
        """csv, tsv, jsonl, parquet or arrow."""
        return file_format(self.files[0])

    def survey(self, on_empty: str, taken: Sequence[str]) -> Survey:
        """Reads everything once, so that what is wrong with the last row is said before the first is scored.

        Args:
            on_empty: what to do about rows without text: error, skip or score.
            taken: the names of the columns that are to stand beside the files' own.

        Raises:
            BadInput: a file cannot be read, a row has no text, or a column has a name that is taken.
        """
        facts = self._facts()
        rows, empty, first = 0, 0, []
        kinds: dict[str, set[type]] = {}
        schema = pa.schema([]) if self.format == "jsonl" else self._schema(self.files[0])
        for portion in self.portions():
            is_empty = without_text(portion.texts, blank=on_empty != "score")
            if on_empty != "skip" and (count := is_empty.true_count):
                places = pc.indices_nonzero(is_empty).slice(0, NAMED).to_pylist()
                first += [rows + place + 1 for place in places]
                empty += count
            if self.format == "jsonl":
                note_kinds(portion.objects, kinds)
            rows += portion.own.num_rows
        if self.format == "jsonl":
            try:
                schema = pa.schema([(name, type_of(found)) for name, found in kinds.items()])
            except UnicodeEncodeError:
                raise BadInput(f"{self.place}: a name holds half a character (a lone surrogate)") from None
            self._check_columns(schema.names, self.place) if rows else None
        for name in taken:
            if name in schema.names:
                raise BadInput(
                    f"{self.place}: has a column {name!r} of its own, as a prediction is to be called; "
                    "choose another --prefix"
                )
        if empty:
            what = f"{_rows(first[:NAMED], empty)} no text in {self._columns}"
            raise BadInput(f"{self.place}: {what}; {REMEDIES[on_empty]}")
        return Survey(rows, schema, facts)

    def portions(self) -> Iterator[Portion]:
        """Yields all rows.

        Raises:
            BadInput: a file cannot be read, or a text is none.
        """
        done = 0
        for file in self.files:
            with in_one_line(file):
                for portion in self._read(file, done):
                    yield replace(portion, first=done)
                    done += portion.own.num_rows

    def check_unchanged(self, survey: Survey) -> None:
        """Makes sure that the files are still those that were surveyed.

        Raises:
            BadInput: one changed.
        """
        for file, before, now in zip(self.files, survey.facts, self._facts(), strict=True):
            if before != now:
                raise BadInput(f"{file}: changed while it was scored; run the command again")

    @property
    def _columns(self) -> str:
        return f"column{'s' if len(self.text_columns) > 1 else ''} {' or '.join(map(repr, self.text_columns))}"

    def _facts(self) -> tuple[tuple[int, int], ...]:
        return tuple((found.st_size, found.st_mtime_ns) for found in (file.stat() for file in self.files))

    def _schema(self, file: Path) -> pa.Schema:
        with in_one_line(file):
            if self.format in TEXT_FORMATS:
                schema = pa.schema([(name, pa.string()) for name in header_of(file)])
            else:
                with open_typed(file) as (schema, _):
                    schema = schema.remove_metadata()
        self._check_columns(schema.names, str(file))
        return schema

    def _check_columns(self, names: Sequence[str], place: str) -> None:
        for column in self.text_columns:
            if column not in names:
                raise BadInput(
                    f"{place}: no column {column!r} ({self.asked_by}), only {', '.join(names)}; --text and --pair name "
                    "others"
                )
        self._labelling(names).columns_of(names, "test", place)

    def _labelling(self, names: Sequence[str]) -> Labelling:
        """Asks the readers of `download` for all columns, as columns to keep."""
        first, second = (*self.texts, None)[:2]
        assert first is not None
        return Labelling("regression", first, second, label_column=first[0], label_names=None, keep_columns=names)

    def _read(self, file: Path, done: int) -> Iterator[Portion]:
        if self.format == "jsonl":
            lines = json_lines(file)
            while batch := list(_up_to(lines)):
                columns = {
                    column: text_array(
                        [row.get(column) for _, row in batch], f"{file}: row {{}}: column {column!r}", done
                    )
                    for column in self.text_columns
                }
                texts = self._joined(columns)
                own = pa.array([line.strip() for line, _ in batch])
                yield Portion(pa.record_batch({LINE: own}), texts, [row for _, row in batch])
                done += len(batch)
            return
        if self.format in TEXT_FORMATS:
            names = header_of(file)
            batches: Any = (batch.select(names) for batch in read_rows(file, "test", self._labelling(names)))
            yield from map(self._with_texts, batches)
            return
        with open_typed(file) as (schema, read_batches):
            for batch in read_batches(schema.names):
                if batch.num_rows:
                    yield self._with_texts(batch.replace_schema_metadata(None))

    def _with_texts(self, batch: pa.RecordBatch) -> Portion:
        columns = {name: plain(batch[name]) for name in self.text_columns}
        for name, texts in columns.items():
            if not is_text(texts.type):
                raise BadInput(f"{self.place}: column {name!r}: expected texts, found {texts.type}")
        return Portion(batch, self._joined(columns))

    def _joined(self, columns: Mapping[str, Any]) -> pa.RecordBatch:
        texts = [joined([columns[name] for name in names]) for names in self.texts]
        return pa.record_batch(dict(zip(("text", "text_pair"), texts, strict=False)))


REMEDIES = {
    "error": "fill it in, or choose --on-empty skip (the row stays, without a prediction) or score (as predict does)",
    "score": "a text that is missing cannot be scored; fill it in, or choose --on-empty skip",
}


class RowStream:
    """Rows that are asked for in any numbers."""

    def __init__(self, portions: Iterator[Portion]) -> None:
        self.portions = portions
        self.rest: Portion | None = None

    def take(self, rows: int) -> Iterator[Portion]:
        """Yields the next so many rows, or those that are left."""
        while rows:
            portion, self.rest = self.rest or next(self.portions, None), None
            if portion is None:
                return
            size = portion.own.num_rows
            if size > rows:
                self.rest, portion = portion.cut(rows, size), portion.cut(0, rows)
            yield portion
            rows -= portion.own.num_rows


def without_text(texts: pa.RecordBatch, blank: bool) -> pa.BooleanArray:
    """Says which rows lack a text.

    Args:
        blank: whether one of nothing but white space counts as none.
    """
    lacking = pa.array([False] * texts.num_rows, pa.bool_())
    for column in texts.columns:
        lacking = pc.or_(lacking, column.is_null())
        if blank:
            lacking = pc.or_(lacking, is_blank(column))
    return lacking


def note_kinds(objects: Iterable[Mapping[str, Any]], kinds: dict[str, set[type]]) -> None:
    """Adds to `kinds` what objects hold under each name; whole numbers beyond 64 bits go as lists, for JSON."""
    for row in objects:
        for name, value in row.items():
            found = kinds.setdefault(name, set())
            if value is not None:
                found.add(list if type(value) is int and not -WHOLE <= value < WHOLE else type(value))


def type_of(kinds: set[type]) -> pa.DataType:
    """Returns the type of a column of such values; those that have none in common are written as JSON."""
    if kinds == {int, float}:
        return pa.float64()
    return TYPES.get(next(iter(kinds)), pa.string()) if len(kinds) == 1 else pa.string()


def _up_to(lines: Iterator[tuple[str, dict[str, Any]]]) -> Iterator[tuple[str, dict[str, Any]]]:
    size = 0
    for line, row in islice(lines, BATCH_ROWS):
        yield line, row
        size += len(line)
        if size > BATCH_BYTES:
            return


def _rows(numbers: Sequence[int], count: int) -> str:
    if count == 1:
        return f"row {numbers[0]} has"
    more = [f"{count - len(numbers)} more"] if count > len(numbers) else []
    *most, last = [*map(str, numbers), *more]
    return f"rows {', '.join(most)} and {last} have"
