"""The quotes of a csv file: what is valid is read as it is meant, and what is not is refused with its line."""

import csv
import io
import random

import pytest

from stages.download import quotes
from stages.shared.runtime.errors import BadInput

LONGEST = 2**20


def check(text: bytes, delimiter: bytes = b",") -> None:
    quotes.check_quotes(io.BytesIO(text), "a.csv", delimiter, LONGEST)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"a,b\n",
        b'a,b\n"x, y","two\nlines"\n',
        b'a,b\r\n"x ""quoted"" y",""\r\n',
        b'"a","b"\n"x","y"',
        b'a,b\n"""x""",y\n',
        b'a,b\n5" nails,6"\n',  # a quote in a cell that does not begin with one is a character
        b'a,b\n x "y",z\n',
        b'\xef\xbb\xbf"a",b\n"x",y\n',
        b'a,b\r"x",y\r',
    ],
)
def test_valid_quotes_pass(text: bytes) -> None:
    check(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'a,b\n"x,y\n', "a.csv: line 2: a quote opens a cell and is never closed"),
        (b'"a,b\nx,y\n', "a.csv: line 1: a quote opens a cell and is never closed"),
        (b'a,b\n\n"x"y,z\n', "a.csv: line 3: a quoted cell goes on behind its closing quote"),
        (b'a,b\n"x\ny\n"z,w\n', "a.csv: line 2, on to line 4: a quoted cell goes on behind its closing quote"),
        (b'a,b\n"x"" \n', "a.csv: line 2: a quote opens a cell and is never closed"),
        (b'a,b\nx,"' + b"y" * LONGEST + b"z" * 2**21, "a.csv: line 2: a quoted cell has more than 1 MiB"),
    ],
)
def test_an_open_quote_is_named_with_its_line(text: bytes, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        check(text)


def test_another_delimiter_ends_a_cell_too() -> None:
    check(b'a\tb\n"x"\ty\n', b"\t")
    with pytest.raises(BadInput, match="line 2"):
        check(b'a\tb\n"x",y\n', b"\t")


def is_strict(text: str) -> bool:
    """Says whether Python's csv, where it is strict, finds nothing wrong."""
    try:
        list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error:
        return False
    return True


def test_what_is_refused_is_what_a_strict_parser_refuses_however_the_file_is_cut(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    generator = random.Random(0)
    seen = set()
    for number in range(4000):
        monkeypatch.setattr(quotes, "CHUNK_BYTES", 1 + number % 30)
        text = "".join(generator.choices('ab"",\n', k=generator.randrange(16)))
        try:
            check(text.encode())
            passed = True
        except BadInput:
            passed = False
        assert passed == is_strict(text), text
        seen.add(passed)
    assert seen == {True, False}
