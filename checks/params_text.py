"""Edits params.yaml as text, because a YAML library would rewrite its lists and nulls."""

import json
import re
from collections.abc import Mapping
from typing import Any

from ruamel.yaml import YAML

KEY = re.compile(r"(?P<indent> *)(?P<key>[A-Za-z_]\w*):")
PLAIN = re.compile(r"[A-Za-z_./][\w./-]*")  # a text that needs no quotes, unless it means something else in YAML
GATE = "gate"  # the section that is a list

Block = list[str]  # the lines of a key: its comments, itself, its value where that goes on


def with_values(text: str, section: str, values: Mapping[str, Any]) -> str:
    """Gives keys of a section other values, each on one line; a key that is not there is left out."""
    blocks = cut(text)
    for key, value in values.items():
        block = blocks[section].get(key, [])
        for number, line in enumerate(block):
            if (found := KEY.match(line)) and found["key"] == key:
                block[number:] = [f"{found['indent']}{key}: {as_yaml(value)}"]
                break
    return joined(blocks)


def without_rules(text: str) -> str:
    """Empties the list of the gate's rules."""
    blocks = cut(text)
    head = blocks.get(GATE, {}).get("", [])
    for number, line in enumerate(head):
        if line.startswith(f"{GATE}:"):
            head[number:] = [f"{GATE}: []"]
            break
    return joined(blocks)


def with_new_keys(ours: str, theirs: str) -> str:
    """Adds the keys of another params.yaml that this one lacks, with their comments, each after the key before it."""
    blocks = cut(ours)
    for section, keys in cut(theirs).items():
        if section not in blocks:
            blocks[section] = keys
            continue
        if set(blocks[section]) == {""}:  # no section of keys, such as a list
            continue
        order, before = list(blocks[section]), ""
        for key in keys:
            if key not in order:
                order.insert(order.index(before) + 1, key)
            before = key
        blocks[section] = {key: blocks[section][key] if key in blocks[section] else keys[key] for key in order}
    return joined(blocks)


def cut(text: str) -> dict[str, dict[str, Block]]:
    """Cuts a params.yaml into its sections and their keys; under "" are the lines up to a section's first key.

    Whoever joins them again has every line of the text.
    """
    sections: dict[str, dict[str, Block]] = {"": {"": []}}
    section, key, comments = "", "", Block()
    for line in text.splitlines():
        found = KEY.match(line)
        if not line.strip() or line.lstrip().startswith("#"):
            comments.append(line)  # of the key that follows
            continue
        if found and not found["indent"]:
            section, key = found["key"], ""
            sections[section] = {key: []}
        elif found and len(found["indent"]) == 2 and section:
            key = found["key"]
            sections[section][key] = []
        sections[section][key] += [*comments, line]
        comments = []
    sections[section][key] += comments
    return sections


def joined(sections: Mapping[str, Mapping[str, Block]]) -> str:
    """Puts together what `cut` has cut."""
    return "\n".join(line for keys in sections.values() for block in keys.values() for line in block) + "\n"


def as_yaml(value: Any) -> str:
    """Writes a value on one line, as params.yaml has it."""
    if isinstance(value, list):
        return f"[{', '.join(map(as_yaml, value))}]"
    if isinstance(value, str) and PLAIN.fullmatch(value) and YAML(typ="safe", pure=True).load(value) == value:
        return value
    return json.dumps(value, ensure_ascii=False)  # which is YAML too
