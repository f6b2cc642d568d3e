"""What the first adapter of a row makes of its size, told from the manifest: the library finds the same when it plans a row."""

from adapters.manifest import Manifest

# Methods that put tokens into a row, and the one whose keys and values stand in front of it, in positions of their own.
PROMPTS = frozenset(("multitask_prompt", "prompt_tuning", "word_prompt"))
PAST = "past_prefix"


def inserted(manifest: Manifest | None) -> int:
    """Tokens that it puts into the row."""
    parts = () if manifest is None else manifest.parts
    return sum(int(part.config["length"]) for part in parts if part.method in PROMPTS)


def shifted(manifest: Manifest | None) -> int:
    """Positions that it takes from the row without a token there; an encoder-decoder's are in its decoder."""
    parts = () if manifest is None or manifest.requires.encoder_layers else manifest.parts
    return sum(int(part.config["length"]) for part in parts if part.method == PAST)


def visits(manifest: Manifest | None) -> float:
    """Layers that the row runs through, over those of the backbone."""
    return 1.0 if manifest is None or manifest.route is None else len(manifest.route) / manifest.requires.layers
