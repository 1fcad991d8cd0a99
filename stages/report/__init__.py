"""A page and a model card that show how good the model is, where it fails, and whether to trust the figures."""
