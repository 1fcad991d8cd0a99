"""Turns texts into token ids, once, so that no training pays for it again."""
