"""Computes scores, their intervals, warnings about them, and the data of DVC's plots."""
