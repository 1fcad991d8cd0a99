"""Makes texts of the data safe and readable: cut, with control characters visible and different words marked.

What is published has no control characters but tabs and line feeds, none that turn the direction of a text (Unicode's
Bidi_Control), and no separators of lines and paragraphs; `without_controls` is the one place for it.
"""

import re
from difflib import SequenceMatcher
from itertools import groupby, pairwise
from operator import itemgetter

from stages.shared.runtime.terminal import visible

LONGEST_CHARACTERS = 1500  # of a text that the page shows
TOKEN = re.compile(r"\w+(?:[.,:'\u2019-]\w+)*|\W+?")  # 1,000.50 and o'clock are a word each
WORD = re.compile(r"\w")
PICTURES = {sign: chr(0x2400 + sign) for sign in range(0x20) if chr(sign) not in "\t\n\r"} | {0x7F: "\u2421"}

Piece = tuple[str, bool]  # a run of characters, and whether it differs from the other text


def show(text: str) -> str:
    """Cuts a long text, and makes it visible; control characters, which HTML does not know, by their pictures."""
    shown = visible(text[:LONGEST_CHARACTERS].translate(PICTURES), keep="\t\n\r")
    rest = len(text) - LONGEST_CHARACTERS
    return f"{shown} … ({rest:,} more characters)" if rest > 0 else shown


def without_controls(document: str) -> str:
    """Makes every control character of a whole page visible, wherever the data had it; ends of lines are line feeds."""
    return visible(document.replace("\r\n", "\n").replace("\r", "\n").translate(PICTURES), keep="\t\n")


def mark_differences(first: str, second: str) -> tuple[list[Piece], list[Piece]]:
    """Splits two texts into pieces, and marks those whose words the other text does not have at that place.

    Case and punctuation are ignored: what differs in them alone is not marked.
    """
    tokens = [TOKEN.findall(text) for text in (first, second)]
    words = [[index for index, token in enumerate(found) if WORD.match(token)] for found in tokens]
    one, two = ([found[index].casefold() for index in places] for found, places in zip(tokens, words, strict=True))
    blocks = SequenceMatcher(None, one, two, autojunk=False).get_matching_blocks()
    same_one = {words[0][block.a + i] for block in blocks for i in range(block.size)}
    same_two = {words[1][block.b + i] for block in blocks for i in range(block.size)}
    return _pieces(tokens[0], words[0], same_one), _pieces(tokens[1], words[1], same_two)


def _pieces(tokens: list[str], words: list[int], same: set[int]) -> list[Piece]:
    """Joins neighbours; what stands between two marked words is marked too."""
    marked = [False] * len(tokens)
    for index in words:
        marked[index] = index not in same
    for left, right in pairwise(words):
        if marked[left] and marked[right]:
            marked[left:right] = [True] * (right - left)
    runs = groupby(zip(tokens, marked, strict=True), key=itemgetter(1))
    return [("".join(token for token, _ in run), mark) for mark, run in runs]
