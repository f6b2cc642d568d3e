"""PEFT's side of the round trip: draw, train, save and run; and load what somebody wrote, and run it."""

import logging
import random
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import PeftModel, get_peft_model
from shared import backbone, inputs, keep, kept, main, train
from torch import Tensor
from transformers import AutoConfig
from tuner_draws import TASKS, draw

OUTPUTS = ("logits", "start_logits", "end_logits")


def make(name: str, seed: int, folder: Path) -> None:
    """Draw a case from a seed, and save it as the library does."""
    rng = random.Random(seed)
    drawn = draw(rng, seed)
    place = folder.parent.parent / "backbones" / name
    backbone(drawn.family, rng, place)
    model = get_peft_model(open_model(place, drawn.task, seed), drawn.config)
    given = inputs(model.config, rng, even=drawn.even)
    rows = len(next(iter(given.values())))
    case = {
        "method": f"{drawn.family} {drawn.method} {drawn.task}",
        "backbone": name,
        "library": "peft",
        "adapters": [{"name": "default", "path": "adapters"}],
        "composition": {"stack": ["default"]},
        "head": {"name": "default", "type": drawn.task} if drawn.headed else None,
        "model_class": type(model.get_base_model()).__name__,
        "inputs": [""] * rows,
        "inputs_kind": "pixel_values" if "pixel_values" in given else "texts",
        "task_type": drawn.task,
        "seed": seed,
    }
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    train(model, trained, lambda: list(compute(model, given).values()))
    model.save_pretrained(folder / "adapters", safe_serialization=True)
    keep(folder, case, given, {})
    load(folder)


def load(folder: Path) -> None:
    """Load the folder that a case names, and compute its outputs in the place of those that are there."""
    case, given = kept(folder)
    place = folder.parent.parent / "backbones" / case["backbone"]
    base = open_model(place, case["task_type"], case["seed"] + 1)  # another head than the saved one was trained with
    model = PeftModel.from_pretrained(base, str(folder / case["adapters"][0]["path"]))
    model.eval()
    with torch.no_grad():
        keep(folder, case, given, compute(model, given))


def open_model(place: Path, task: str, seed: int) -> Any:
    """transformers' class for a task over a backbone's folder; what the folder does not hold is drawn."""
    torch.manual_seed(seed)
    sort = "AutoModelForImageClassification" if AutoConfig.from_pretrained(place).model_type == "vit" else TASKS[task]
    more = {"num_labels": 3} if task in ("SEQ_CLS", "TOKEN_CLS") else {}
    model = getattr(transformers, sort).from_pretrained(place, attn_implementation="eager", **more)
    return model.eval()


def compute(model: Any, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What the model answers, and the last hidden states of its base."""
    inner = model.get_base_model()
    stem = getattr(inner, inner.base_model_prefix, inner)
    seen = []
    hook = stem.register_forward_hook(lambda module, args, output: seen.append(output.last_hidden_state))
    try:
        answered = model(**given)
    finally:
        hook.remove()
    found = {name: getattr(answered, name) for name in OUTPUTS if getattr(answered, name, None) is not None}
    return {"hidden_state": seen[-1], **found}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    main(make, load)
