"""Tagging: one score per label for every token."""

from adapters.heads.linear import LinearHead

TAGGING = LinearHead("tagging", "tokens", ("token",))
