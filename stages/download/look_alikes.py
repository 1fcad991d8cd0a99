"""Finds names of labels that may be one name, written in two ways: by case, by white space, or with a typing error."""

import re
import unicodedata
from collections.abc import Sequence

GAP = re.compile(r"(?<=\w)[\s_-]+(?=\w)")
SHORTEST_WORD = 5  # Shorter words, such as "sad" and "mad", differ by a letter because they are different.


def look_alikes(names: Sequence[str]) -> list[tuple[str, str]]:
    """Returns the pairs of names that look alike."""
    groups: dict[str, list[str]] = {}  # what names have in common -> those names
    for name in names:
        for key in _keys(name):
            groups.setdefault(key, []).append(name)
    pairs = {(group[0], other) for group in groups.values() for other in group[1:]}
    place = {name: number for number, name in enumerate(names)}
    return sorted(pairs, key=lambda pair: (place[pair[0]], place[pair[1]]))


def look_alike(one: str, other: str) -> bool:
    """Says whether two names look alike."""
    return not _keys(one).isdisjoint(_keys(other))


def _keys(name: str) -> set[str]:
    """Returns keys of which two names share one if they are the same but for case, gaps or, in a long word, a letter.

    Two words that differ by a letter are equal once each, or the longer one, has lost one (Garbe's deletions).
    """
    folded = unicodedata.normalize("NFKC", name).casefold().strip()
    keys = {GAP.sub("", folded)}
    words = GAP.split(folded)
    for number, word in enumerate(words):
        if len(word) < SHORTEST_WORD or any(sign.isdigit() for sign in word):
            continue
        shorter = {word, *(word[:place] + word[place + 1 :] for place in range(len(word)))}
        keys |= {"\n".join([*words[:number], f"*{one}", *words[number + 1 :]]) for one in shorter}
    return keys
