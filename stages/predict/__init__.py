"""Computes the logits of every split but train: longest examples first, as many at once as the token budget takes."""
