"""Checks the quotes of a csv file: one that is left open swallows rows, and no parser complains."""

import re
from collections.abc import Iterator
from typing import BinaryIO

from stages.shared.runtime.errors import BadInput

CHUNK_BYTES = 2**20
# From behind the opening quote to the closing one. It gives nothing back: half of a pair is no closing quote.
END_OF_CELL = re.compile(rb'[^"]*+(?:""[^"]*+)*+"')
REMEDY = 'close the cell, and write a quote inside of a quoted cell twice: ""'


def check_quotes(stream: BinaryIO, place: str, delimiter: bytes, longest: int) -> None:
    """Reads a csv file and makes sure that each cell that begins with a quote ends with one.

    A quote opens a cell only at its beginning, and elsewhere is a character. Inside of a quoted cell two quotes stand
    for one, and lines may end. (RFC 4180, as pyarrow and Python read it. They take whatever follows a closing quote
    for more of the cell.)

    Args:
        delimiter: what stands between two cells, one byte.
        longest: the largest number of bytes of a cell.

    Raises:
        BadInput: a quote closes in the middle of a cell, or never, or the cell is too long.
    """
    opening = re.compile(rb"(?<=[\r\n" + re.escape(delimiter) + rb'])"')
    after = delimiter + b"\r\n"
    buffer, line, ended = b"\n", 0, False  # The first cell, too, has something before it; its line feed begins line 1.
    chunks = _chunks(stream)
    start = 0  # where the next quote that opens a cell is looked for
    while True:
        found = opening.search(buffer, start)
        closed = END_OF_CELL.match(buffer, found.end()) if found else None
        if found and closed and (closed.end() < len(buffer) or ended):
            if closed.end() < len(buffer) and buffer[closed.end()] not in after:
                first = line + buffer.count(b"\n", 0, found.start())
                last = first + buffer.count(b"\n", found.start(), closed.end())
                where = f"line {first}" if first == last else f"line {first}, on to line {last}"
                raise BadInput(f"{place}: {where}: a quoted cell goes on behind its closing quote; {REMEDY}")
            start = closed.end()
            continue
        opened = found.start() if found else len(buffer) - 1
        if found and (ended or len(buffer) - opened > longest):
            first = line + buffer.count(b"\n", 0, opened)
            if ended:
                raise BadInput(f"{place}: line {first}: a quote opens a cell and is never closed; {REMEDY}")
            raise BadInput(
                f"{place}: line {first}: a quoted cell has more than {longest // 2**20} MiB, the limit for a row; "
                f"{REMEDY}; or use .parquet"
            )
        if ended:
            return
        cut = max(opened - 1, 0)  # the byte before a quote says whether it opens a cell
        line += buffer.count(b"\n", 0, cut)
        chunk = next(chunks, b"")
        ended, buffer, start = not chunk, buffer[cut:] + chunk, max(start - cut, 0)


def _chunks(stream: BinaryIO) -> Iterator[bytes]:
    """Yields a file's bytes, without the byte order mark that some editors begin it with."""
    first = stream.read(CHUNK_BYTES)
    yield first.removeprefix(b"\xef\xbb\xbf")
    while chunk := stream.read(CHUNK_BYTES):
        yield chunk
