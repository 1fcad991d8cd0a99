"""Escapes texts of the data for Markdown."""

SIGNS = "\\`*_{}[]<>()#+!|~$&"  # each may begin something; a backslash makes it itself


def plain(text: str) -> str:
    """Makes a text of the data, such as a label's name, harmless in a line or a table's cell of Markdown.

    A name after `@` is looked for once the Markdown is rendered, so that no backslash helps: a space of no width
    parts the two.
    """
    escaped = "".join(f"\\{sign}" if sign in SIGNS else sign for sign in text)
    return " ".join(escaped.replace("@", "@&#8203;").split())
