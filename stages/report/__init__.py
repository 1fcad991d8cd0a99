"""One page and one model card that say how good the model is, where it fails, and whether to trust the figures."""
