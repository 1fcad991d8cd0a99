"""Builds the bundled sample from WordNet 3.0: does this definition fit this word?

    python -m benchmarks.make_sample FOLDER [--out data/sample]

FOLDER holds data.noun, index.noun and cntlist.rev, as Debian's package wordnet-base
(1:3.0-37) installs them in /usr/share/wordnet. Writes train.csv, validation.csv, test.csv, and WordNet's licence as it
stands at the top of data.noun. The same files give the same bytes: nothing is drawn, and where one of many is to be
chosen, a hash of the words chooses.

Two words exchange their definitions, so a group of four rows has each word and each definition once with either label.
What a row holds of words alone says nothing about its label.
"""

import argparse
import csv
import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

from benchmarks.clone import ROOT

GROUPS = {"train": 500, "validation": 100, "test": 100}  # four rows each
COLUMNS = ("idx", "word", "definition", "label", "kind", "group")
FEWEST_WORDS, MOST_WORDS = 5, 30  # of a definition
SHORTEST_STEM = 4  # letters: shorter ones are in longer words by chance
FUNCTION_WORDS = frozenset(re.findall(r"\w+", "a an and at by for from in of on or out over that the to under up with"))
HYPERNYMS = ("@", "@i")

# Words and definitions that nobody should meet in an example: slurs and words that look down on people, sex, violent
# crime, drugs. Each is the beginning of a word.
UNWANTED = re.compile(
    r"\b(?:"
    r"abort|abus|anus|assassin|asylum|bastard|bestial|bitch|blacks|bomb|bordello|brothel|buttock|cannab|cocain|"
    r"coitus|contracept|copulat|corpse|crime|criminal|crippl|cruel|damn|deaf|death|derogat|disab|drug|drunk|"
    r"dying|ejacul|electroshock|erot|executed|executio|felony|fornic|genital|genocid|handicap|hang|harlot|"
    r"hashish|hell|heroin|hitler|holdup|holocaust|homicid|homosex|illegal|incest|indelicate|inebri|insan|"
    r"intercourse|intoxic|islamis|kill|lesbian|lust|lynch|mammar|marijuana|massacr|masturb|mating|menstr|"
    r"molest|morphin|murder|narcot|nazi|negro|nigger|nipple|nude|obscen|opium|orgas|pejorat|penis|pervert|pimp|"
    r"poison|porn|prostitut|psychopath|pubic|rape|rapist|reproduct|robber|robbery|rowdy|savage|scrot|seduc|"
    r"semen|sex|shit|shoot|slaughter|slave|slum|sodom|sperm|steal|strangl|subnormal|suicid|syphil|terror|"
    r"testic|testis|thief|thieve|tortur|uncompliment|unlawful|vagina|venereal|victim|virgin|vulva|weapon|whore|"
    r"witch|wound"
    r")"
)
# Found by reading: definitions that a reader doubts to fit, and words that look down on people without saying so.
DOUBTFUL = frozenset(
    {"coyness", "harem", "paganism", "political system", "ragamuffin", "rear end", "setback", "space probe", "yokel"}
)


DOUBTFUL_GROUPS = [{"quality of life", "standard of living"}]  # a definition fits both words


@dataclass(frozen=True)
class Sense:
    """A familiar noun that means one thing."""

    word: str
    definition: str
    kind: int  # number of the lexicographer's file: a person, an artifact, an act
    ancestors: frozenset[str]  # offsets of all synsets above it, and its own

    @property
    def rank(self) -> str:
        """Orders senses as if by chance."""
        return digest(self.word)


@dataclass(frozen=True)
class Synset:
    kind: int
    words: list[str]
    hypernyms: list[str]
    gloss: str


def digest(text: str) -> str:
    """Returns the hash by which one of many is chosen."""
    return hashlib.sha256(text.encode()).hexdigest()


def read_synsets(file: Path) -> dict[str, Synset]:
    """Reads data.noun: offset -> synset."""
    synsets = {}
    for line in lines(file):
        facts, gloss = line.split("|", 1)
        offset, kind, _, count, *rest = facts.split()
        words, rest = rest[: 2 * int(count, 16) : 2], rest[2 * int(count, 16) + 1 :]
        hypernyms = [target for mark, target in zip(rest[::4], rest[1::4], strict=False) if mark in HYPERNYMS]
        synsets[offset] = Synset(int(kind), words, hypernyms, gloss.strip())
    return synsets


def lines(file: Path) -> Iterator[str]:
    """Yields the lines of a file of WordNet without its licence, which stands first and is indented."""
    with file.open(encoding="ascii") as stream:
        yield from (line for line in stream if not line.startswith(" "))


def licence(file: Path) -> str:
    """Returns the licence at the top of a file of WordNet, without the numbers of its lines."""
    with file.open(encoding="ascii") as stream:
        numbered = [line for line in stream if line.startswith(" ")]
    return "".join(re.sub(r"^ +\d+ ?", "", line).rstrip() + "\n" for line in numbered)


def familiar(folder: Path) -> dict[str, tuple[int, str]]:
    """Returns the nouns that occur in WordNet's counted texts and have one sense: lemma -> (count, offset)."""
    counts: dict[str, int] = {}
    for line in lines(folder / "cntlist.rev"):
        key, _, count = line.split()
        lemma, _, sense = key.partition("%")
        if sense.startswith("1"):  # a noun
            counts[lemma] = counts.get(lemma, 0) + int(count)
    found = {}
    for line in lines(folder / "index.noun"):
        lemma, _, senses, *rest = line.split()
        if senses == "1" and lemma in counts:
            found[lemma] = (counts[lemma], rest[-1])
    return found


def definition_of(gloss: str) -> str:
    """Returns the definition of a gloss: without its examples, domain labels and asides, and the first of several."""
    text = re.sub(r"\([^()]*\)", " ", re.split(r';\s*"|\s"', gloss)[0])
    return " ".join(re.sub(r"\s+([,;:])", r"\1", text).split(";")[0].split()).strip(" ,:")


def parts(text: str) -> set[str]:
    """Returns the words of a text that say something, in lower case."""
    return set(re.findall(r"[a-z]+", text.lower())) - FUNCTION_WORDS


def names(word: str, definition: str) -> bool:
    """Says whether a definition holds a part of the word, in this form or another."""
    return any(akin(one, other) for one in parts(word) for other in parts(definition))


def akin(one: str, other: str) -> bool:
    """Says whether two words are the same, or the longer one is made of the shorter one: `section`, `subsection`."""
    short, long = sorted((one, other), key=len)
    return short == long or (len(short) >= SHORTEST_STEM and (long.startswith(short) or long.endswith(short)))


def senses(folder: Path) -> list[Sense]:
    """Returns the senses that the sample may use, the most familiar words first."""
    synsets = read_synsets(folder / "data.noun")

    def above(offset: str) -> set[str]:
        return {offset}.union(*(above(parent) for parent in synsets[offset].hypernyms))

    found: list[Sense] = []
    used: set[str] = set()
    for lemma, (_, offset) in sorted(familiar(folder).items(), key=lambda item: (-item[1][0], digest(item[0]))):
        synset = synsets[offset]
        word, definition = lemma.replace("_", " "), definition_of(synset.gloss)
        clean = re.fullmatch(r"[a-z][a-z ]{2,}", word) and re.fullmatch(r"[A-Za-z0-9 ,.'-]+", definition)
        if (
            clean
            and lemma in synset.words  # a name would be written with a capital
            and FEWEST_WORDS <= len(definition.split()) <= MOST_WORDS
            and not names(word, definition)
            and not UNWANTED.search(f"{word} {synset.gloss}".lower())
            and word not in DOUBTFUL
            and not {offset, definition} & used
        ):
            used |= {offset, definition}
            found.append(Sense(word, definition, synset.kind, frozenset(above(offset))))
    return found


def close(one: Sense, other: Sense, synsets_between: int = 3) -> bool:
    """Says whether one is above the other, or both stand under one parent, so that a definition might fit both."""
    return len(one.ancestors ^ other.ancestors) < synsets_between or one.ancestors <= other.ancestors


def partner(sense: Sense, others: Iterable[Sense], same_kind: bool) -> Sense | None:
    """Returns the first of the others that may exchange definitions with a sense."""
    return next(
        (
            other
            for other in others
            if (other.kind == sense.kind) == same_kind
            and not (close(sense, other) or close(other, sense))
            and not names(sense.word, other.definition)
            and not names(other.word, sense.definition)
        ),
        None,
    )


def groups(folder: Path) -> list[tuple[str, Sense, Sense]]:
    """Returns (kind of group, the two senses), a group of one kind and one of the other in turn."""
    count = sum(GROUPS.values())
    free = sorted(senses(folder)[: 2 * count + count // 10], key=lambda sense: sense.rank)
    made: dict[str, list[tuple[str, Sense, Sense]]] = {"same_kind": [], "other_kind": []}
    turn = cycle(made)
    kind = next(turn)
    while free and min(map(len, made.values())) < count // 2:
        first, *rest = free
        second = partner(first, rest, kind == "same_kind")
        free = [sense for sense in rest if sense is not second]
        if second is not None:
            if {first.word, second.word} not in DOUBTFUL_GROUPS:
                made[kind].append((kind, first, second))
            kind = next(turn)
    return [group for both in zip(*made.values(), strict=False) for group in both]


def rows(folder: Path) -> dict[str, list[tuple[str, str, int, str, int]]]:
    """Returns the rows of each split: word, definition, label, kind, group."""
    split_of = [split for split, number in GROUPS.items() for _ in range(number)]
    found: dict[str, list[tuple[str, str, int, str, int]]] = {split: [] for split in GROUPS}
    for group, (split, (kind, one, other)) in enumerate(zip(split_of, groups(folder), strict=True), start=1):
        for word in (one, other):
            for definition in (one, other):
                found[split].append((word.word, definition.definition, int(word is definition), kind, group))
    return {split: sorted(made, key=lambda row: digest(f"{row[0]}: {row[1]}")) for split, made in found.items()}


def main(folder: Path, out: Path) -> None:
    """Writes the three files and the licence."""
    (out / "LICENSE").write_text(licence(folder / "data.noun"), encoding="ascii")
    for split, made in rows(folder).items():
        with (out / f"{split}.csv").open("w", encoding="ascii", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(COLUMNS)
            writer.writerows((index, *row) for index, row in enumerate(made))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=ROOT / "data" / "sample")
    chosen = parser.parse_args()
    main(chosen.folder, chosen.out)
