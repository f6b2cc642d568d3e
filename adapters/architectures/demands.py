"""What a model's configuration must say for a record to hold."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Demand:
    """A member of `config.json` (dotted where it is nested) without which the record would be wrong.

    It must be absent, null, one of `values`, or equal to the member `like`.
    """

    member: str
    values: tuple[object, ...]
    because: str
    like: str | None = None

    def unmet(self, config: Mapping[str, Any]) -> str | None:
        """Why a configuration is refused, if it is."""
        value: Any = config
        for name in self.member.split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
        if value is None or value in self.values or (self.like is not None and value == config.get(self.like)):
            return None
        return f"{self.member} is {value!r}: {self.because}"


# Older models of the BERT family could have both; what runs here has neither.
ENCODER = Demand("is_decoder", (False,), "causal attention is not served for this family")
ABSOLUTE = Demand("position_embedding_type", ("absolute",), "positions in the attention are not served for this family")
