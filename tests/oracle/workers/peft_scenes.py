"""How the adapters of a case are used: one alone, several in one batch, several at once, or several made into one."""

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from peft import PeftModel, get_peft_model
from shared import train
from tuner_draws import Draw

BASE = "__base__"  # PEFT's name of no adapter, for a row of a mixed batch
MADE = "default"  # the adapter that others were made into
_WAYS = ("linear", "cat", "svd", "ties", "dare_linear", "magnitude_prune")


def trained(base: Any, drawn: Draw, given: Mapping[str, Any], compute: Any, rng: random.Random) -> PeftModel:
    """The model with every adapter of a draw, each a few steps away from its start; `weighted` ones made into one."""
    first, *others = drawn.configs
    if drawn.family == "distilbert" and drawn.configs[first].is_prompt_learning:
        said = base.config  # whose names for them the library does not know
        sizes = {"token_dim": said.dim, "num_layers": said.n_layers, "num_attention_heads": said.n_heads}
        for name, value in sizes.items():
            setattr(drawn.configs[first], name, value)
    model = get_peft_model(base, drawn.configs[first], adapter_name=first)
    for name in others:
        model.add_adapter(name, drawn.configs[name])
    for name in drawn.configs:
        model.set_adapter(name)
        train(model, [p for p in model.parameters() if p.requires_grad], lambda: list(compute(model, given).values()))
    if drawn.scene == "weighted":
        way, weights = rng.choice(_WAYS), [rng.choice((0.3, 0.7, 1.0, 1.5)) for _ in drawn.configs]
        more = {"svd_rank": rng.choice((None, 2))} if way == "svd" else {}
        more |= {"density": 0.6} if way in ("ties", "dare_linear", "magnitude_prune") else {}
        model.add_weighted_adapter(list(drawn.configs), weights, MADE, combination_type=way, **more)
    return model


def save(model: PeftModel, drawn: Draw, folder: Path) -> list[dict[str, str]]:
    """Save what the case is about below its folder; its adapters in the words of a case."""
    names = [MADE] if drawn.scene in ("alone", "weighted") else list(drawn.configs)
    for name in names:
        model.save_pretrained(folder / "adapters", safe_serialization=True, selected_adapters=[name])
    return [{"name": name, "path": "adapters" if name == MADE else f"adapters/{name}"} for name in names]


def words(drawn: Draw, names: Sequence[str], rows: int, rng: random.Random) -> dict[str, Any]:
    """What a case says of its composition."""
    if drawn.scene == "mixed":
        # Before a head for questions the library loses segment ids, which a row of the base model alone does not.
        bare = () if drawn.task == "QUESTION_ANS" else (BASE,)
        chosen = [*names, *rng.choices((*names, *bare), k=rows)][:rows]
        rng.shuffle(chosen)
        held = [None if name == BASE else name for name in chosen]
        return {"composition": None, "rows": [{"composition": n, "head": n if drawn.headed else None} for n in held]}
    if drawn.scene == "sum":
        return {"composition": {"sum": list(names)}}
    return {"composition": {"stack": list(names)}}


def loaded(base: Any, case: Mapping[str, Any], folder: Path) -> tuple[PeftModel, dict[str, Any]]:
    """(the model with the adapters of a case switched on as it says, what its calls are given beside the inputs)."""
    first, *others = case["adapters"]
    model = PeftModel.from_pretrained(base, str(folder / first["path"]), adapter_name=first["name"])
    for held in others:
        model.load_adapter(str(folder / held["path"]), held["name"])
    if case.get("rows"):
        return model.eval(), {"adapter_names": [row["composition"] or BASE for row in case["rows"]]}
    if others:
        model.base_model.set_adapter([held["name"] for held in case["adapters"]])
    return model.eval(), {}
