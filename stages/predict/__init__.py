"""Computes the logits of every split except train: longest examples first, in batches within the token budget."""
