"""Scores, how sure they are, reasons to doubt them, and what DVC draws of them."""
