"""What is printed: texts of the data and of the Hub can neither move a terminal's cursor nor pass for another line.

Every stage and check prints by the functions below, and by nothing else.
"""

import sys
import unicodedata

# Control characters, halves of characters, and ends of lines and paragraphs.
INVISIBLE = ("Cc", "Cf", "Cs", "Zl", "Zp")
# Characters without a width that scripts and emoji need; those that turn the direction of a line are none of them.
JOINERS = "\u200c\u200d"


def visible(text: str, keep: str = "") -> str:
    """Writes out what a terminal would obey or not show, as Python does: \\x1b, \\n, \\u202e.

    Args:
        keep: characters that stay as they are.
    """
    return "".join(
        sign.encode("unicode_escape").decode()
        if unicodedata.category(sign) in INVISIBLE and sign not in JOINERS and sign not in keep
        else sign
        for sign in text
    )


def say(text: str) -> None:
    """Prints an answer to stdout; its line feeds are ours, and what of the data stands in it is `visible` before."""
    print(visible(text, keep="\n"), flush=True)


def warn(line: str) -> None:
    """Prints one line to stderr, whatever is in it."""
    print(visible(line), file=sys.stderr, flush=True)
