"""Fits what makes probabilities mean what they say, and decisions by them; the model stays as it is."""
