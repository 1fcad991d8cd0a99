"""The base of every program: parameters, outputs that appear complete or not at all, one-line errors for bad input."""
