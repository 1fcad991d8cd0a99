"""The exception for wrong input from the user, as opposed to a bug."""


class BadInput(Exception):  # noqa: N818  (it names what happened, as KeyboardInterrupt does)
    """Ends a stage with its message as one line on stderr: what, where, what was expected, what to do."""
