"""Scores, how sure they are, what speaks against them, and what DVC draws of them."""
