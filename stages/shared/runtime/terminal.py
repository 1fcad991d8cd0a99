"""Prints safely: texts of the data and of the Hub cannot move the cursor or fake another line.

Every stage and check prints by the functions below, and by nothing else.
"""

import re
import sys
import unicodedata
from typing import TextIO

# Control characters, those that turn the direction of a line, halves of characters, ends of lines and paragraphs.
INVISIBLE = ("Cc", "Cf", "Cs", "Zl", "Zp")
JOINERS = "\u200c\u200d"  # of these, what scripts and emoji need
UNUSUAL = re.compile(r"[^ -~]")  # what is to be looked at; a page of a million letters has few of them


def visible(text: str, keep: str = "") -> str:
    """Writes out what a terminal would obey or not show, as Python does: \\x1b, \\n, \\u202e.

    Args:
        keep: characters that stay as they are.
    """
    kept = JOINERS + keep

    def shown(matched: re.Match[str]) -> str:
        sign = matched[0]
        obeyed = unicodedata.category(sign) in INVISIBLE and sign not in kept
        return sign.encode("unicode_escape").decode() if obeyed else sign

    return UNUSUAL.sub(shown, text)


def say(text: str) -> None:
    """Prints an answer to stdout; its line feeds are ours, and what of the data stands in it is `visible` before."""
    print(encodable(visible(text, keep="\n"), sys.stdout), flush=True)


def warn(line: str) -> None:
    """Prints one line to stderr, whatever is in it."""
    print(encodable(visible(line), sys.stderr), file=sys.stderr, flush=True)


def encodable(text: str, stream: TextIO) -> str:
    """Writes out the characters that a stream's encoding lacks, as \\u0416: a terminal may know Latin letters alone."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)
