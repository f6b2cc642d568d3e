"""The backbone that a package was made for: part of every manifest. No torch."""

from dataclasses import dataclass
from typing import Protocol

from adapters.members import as_count, as_flag, as_optional_count, as_text, members


class Sizes(Protocol):
    """What a package needs to know of a backbone."""

    @property
    def model_type(self) -> str: ...  # noqa: D102 - as in `Requires`
    @property
    def hidden_size(self) -> int: ...  # noqa: D102 - as in `Requires`
    @property
    def layers(self) -> int: ...  # noqa: D102 - as in `Requires`
    @property
    def heads(self) -> int: ...  # noqa: D102 - as in `Requires`
    @property
    def encoder_layers(self) -> int: ...  # noqa: D102 - as in `Requires`
    @property
    def gated(self) -> bool: ...  # noqa: D102 - as in `Requires`
    @property
    def averaged(self) -> bool: ...  # noqa: D102 - as in `Requires`


@dataclass(frozen=True)
class Requires:
    """The backbone that a package was made for. `embedding` names the vocabulary it was trained on, if not the default.

    `encoder_layers` of an encoder-decoder's `layers` are its encoder's; `gated`: its feed-forwards have a gate.
    `averaged`: transformers' heads for rows read the mean of its states (`classifier_pooling`).
    """

    model_type: str
    hidden_size: int
    layers: int
    heads: int
    embedding: str | None = None
    encoder_layers: int = 0
    gated: bool = False
    averaged: bool = False

    @classmethod
    def of(cls, sizes: "Sizes") -> "Requires":
        """The backbone that has these sizes, under its default vocabulary."""
        own = (sizes.model_type, sizes.hidden_size, sizes.layers, sizes.heads)
        return cls(*own, encoder_layers=sizes.encoder_layers, gated=sizes.gated, averaged=sizes.averaged)


def parse_requires(value: object) -> Requires:
    """Read and check the member; raises `InvalidPackage`."""
    raw = members(value, Requires, "manifest.requires", required=("model_type", "hidden_size", "layers", "heads"))
    embedding = raw.get("embedding")
    return Requires(
        model_type=as_text(raw["model_type"], "manifest.requires.model_type"),
        hidden_size=as_count(raw["hidden_size"], "manifest.requires.hidden_size"),
        layers=as_count(raw["layers"], "manifest.requires.layers"),
        heads=as_count(raw["heads"], "manifest.requires.heads"),
        embedding=None if embedding is None else as_text(embedding, "manifest.requires.embedding"),
        encoder_layers=as_optional_count(raw.get("encoder_layers"), "manifest.requires.encoder_layers") or 0,
        gated=as_flag(raw.get("gated", False), "manifest.requires.gated"),
        averaged=as_flag(raw.get("averaged", False), "manifest.requires.averaged"),
    )
