"""The columns of data/raw that `download.keep_columns` put there, by the names that they have in the data."""

PREFIX = "kept:"  # no column of the data can pass for one of ours


def kept(name: str) -> str:
    """Returns the name that a kept column has in data/raw."""
    return PREFIX + name
