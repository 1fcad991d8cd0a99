"""Simple models on the same splits, each held against the fine-tuned one: does fine-tuning pay?"""
