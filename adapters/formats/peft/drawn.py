"""Parts of a head that PEFT leaves out of its folders, and transformers draws anew at every load.

PEFT saves the modules that it knows as heads. What a class has in front of them is drawn by `from_pretrained`, from the
generator's state at that moment: whoever seeds it and loads the model at once, as training scripts do, has the same
part again. What is drawn here is what transformers 5 draws first after `torch.manual_seed(seed)`.
"""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

RANGE = 0.02  # `initializer_range` of the families' published models
CUT = 2.0  # ModernBERT's `initializer_cutoff_factor`

Drawn = dict[str, Tensor]


def _dense(name: str) -> Callable[[int, int, torch.Generator], Drawn]:
    def draw(hidden: int, layers: int, generator: torch.Generator) -> Drawn:
        weight = torch.empty(hidden, hidden).normal_(0.0, RANGE, generator=generator)
        return {f"{name}.weight": weight, f"{name}.bias": torch.zeros(hidden)}

    return draw


def _cut_off(hidden: int, layers: int, generator: torch.Generator) -> Drawn:
    """ModernBERT's: drawn once as every map is, and then once more by what holds it."""
    weight, deviation = torch.empty(hidden, hidden).normal_(0.0, RANGE, generator=generator), _deviation(layers)
    torch.nn.init.trunc_normal_(weight, 0.0, deviation, -CUT * deviation, CUT * deviation, generator=generator)
    return {"head.dense.weight": weight, "head.norm.weight": torch.ones(hidden)}


def _deviation(layers: int) -> float:
    return RANGE / math.sqrt(2.0 * layers)


# Family -> what stands in front of the map `classifier` that PEFT saves.
_DRAWS: Mapping[str, Callable[[int, int, torch.Generator], Drawn]] = {
    "deberta-v2": _dense("pooler.dense"),
    "distilbert": _dense("pre_classifier"),
    "modernbert": _cut_off,
}


def drawn(held: Mapping[str, Tensor], model_type: str, layers: int, seed: int) -> Drawn:
    """What stands in front of a head's last map, as transformers draws it first under a seed; nothing for other families."""
    last, draw = held.get("classifier.weight"), _DRAWS.get(model_type)
    if draw is None or last is None or last.dim() != 2:
        return {}
    return draw(last.shape[1], layers, torch.Generator().manual_seed(seed))
