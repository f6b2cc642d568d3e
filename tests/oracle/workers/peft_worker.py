"""PEFT's side of the round trip: draw, train, save and run; and load what somebody wrote, and run it."""

import logging
import random
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import peft_scenes
import torch
import transformers
from peft_hosts import TASKS
from shared import GREEDY, SECOND_IDS, backbone, doubled, inputs, keep, kept, main, rounding_of, second_rows
from torch import Tensor, nn
from transformers import AutoConfig
from tuner_draws import draw

OUTPUTS = ("logits", "start_logits", "end_logits")


def make(name: str, seed: int, folder: Path) -> None:
    """Draw a case from a seed, and save it as the library does."""
    rng = random.Random(seed)
    drawn = draw(rng, seed)
    place = folder.parent.parent / "backbones" / name
    backbone(drawn.family, rng, place, getattr(transformers, TASKS[drawn.task] if drawn.generating else "AutoModel"))
    base = open_model(place, drawn.task, seed)
    given = inputs(base.config, rng, even=drawn.even)
    if not _encodes_alone(base):
        given |= second_rows(base.config, given, rng, whole=drawn.task == "SEQ_CLS")
    _call(given, next(iter(drawn.configs.values())), rng)
    rows = len(next(iter(given.values())))
    model = peft_scenes.trained(base, drawn, given | _tasks(drawn.task_id, rows), compute, rng)
    saved = peft_scenes.save(model, drawn, folder)
    scene = peft_scenes.words(drawn, [held["name"] for held in saved], rows, rng)
    case = {
        "method": f"{drawn.family} {drawn.method} {drawn.task} {drawn.scene}",
        "backbone": name,
        "library": "peft",
        "adapters": saved,
        "head": {"name": saved[0]["name"], "type": drawn.task} if drawn.headed and "rows" not in scene else None,
        "model_class": type(model.get_base_model()).__name__,
        "inputs": [""] * rows,
        "inputs_kind": "pixel_values" if "pixel_values" in given else "texts",
        "task_type": drawn.task,
        "task_id": drawn.task_id,
        "seed": seed,
        "decoder_inputs": given[SECOND_IDS].tolist() if SECOND_IDS in given else None,
        "generate": GREEDY if drawn.generating and not drawn.apart else None,
        "apart": drawn.apart,
        **scene,
    }
    keep(folder, case, given, {})
    load(folder)


def load(folder: Path) -> None:
    """Load the folder that a case names, and compute its outputs in the place of those that are there."""
    case, given = kept(folder)
    place = folder.parent.parent / "backbones" / case["backbone"]
    base = open_model(place, case["task_type"], case["seed"] + 1)  # another head than the saved one was trained with
    model, more = peft_scenes.loaded(base, case, folder)
    more |= _tasks(case.get("task_id"), len(case["inputs"]))
    computed = compute_apart if case.get("apart") else compute
    with torch.no_grad():
        found = computed(model, {**given, **more})
        written = {}
        if case.get("generate"):
            asked = {name: tensor for name, tensor in given.items() if name != SECOND_IDS}
            written["generated"] = model.generate(**asked, **more, **case["generate"])
        rounding = rounding_of(found, lambda: computed(model.double(), {**doubled(given), **more}))
    keep(folder, {**case, "rounding": rounding}, given, found | written)


def open_model(place: Path, task: str, seed: int) -> Any:
    """transformers' class for a task over a backbone's folder; what the folder does not hold is drawn."""
    torch.manual_seed(seed)
    images = task == "SEQ_CLS" and AutoConfig.from_pretrained(place).model_type == "vit"
    sort = "AutoModelForImageClassification" if images else TASKS[task]
    more = {"num_labels": 3} if task in ("SEQ_CLS", "TOKEN_CLS") else {}
    model = getattr(transformers, sort).from_pretrained(place, attn_implementation="eager", **more)
    return model.eval()


def compute(model: Any, given: Mapping[str, Any]) -> dict[str, Tensor]:
    """What the model answers, and the last hidden states of its base."""
    inner = model.get_base_model()
    seen: dict[str, Tensor] = {}

    def watch(name: str, module: nn.Module) -> Any:
        return module.register_forward_hook(lambda module, args, output: seen.update({name: output.last_hidden_state}))

    if _encodes_alone(inner):
        hooks = [watch("encoder_hidden_state", getattr(inner, inner.base_model_prefix))]
    elif inner.config.is_encoder_decoder:
        hooks = [watch("hidden_state", inner.get_decoder()), watch("encoder_hidden_state", inner.get_encoder())]
    else:
        hooks = [watch("hidden_state", getattr(inner, inner.base_model_prefix, inner))]
    try:
        answered = model(**given)
    finally:
        for hook in hooks:
            hook.remove()
    if hasattr(answered, "last_hidden_state"):  # AdaLoRA calls the base past its hooks
        seen["hidden_state"] = answered.last_hidden_state
    return seen | {name: getattr(answered, name) for name in OUTPUTS if getattr(answered, name, None) is not None}


def _encodes_alone(model: Any) -> bool:
    """Whether a class has an encoder-decoder's encoder without its decoder."""
    return type(getattr(model, model.base_model_prefix, model)).__name__.endswith("EncoderModel")


def _tasks(number: int | None, rows: int) -> dict[str, Tensor]:
    """What a model is told beside its inputs: the task of each row."""
    return {} if number is None else {"task_ids": torch.full((rows,), number)}


def _call(given: Mapping[str, Tensor], config: Any, rng: random.Random) -> None:
    """Let all rows but one hold the tokens that call an adapter, the first one twice."""
    tokens = getattr(config, "alora_invocation_tokens", None)
    if tokens is None:
        return
    for row, length in enumerate(given["attention_mask"].sum(1).tolist()[:-1]):
        for _ in range(2 if row == 0 else 1):
            at = rng.randrange(length - len(tokens) + 1)
            given["input_ids"][row, at : at + len(tokens)] = torch.tensor(tokens)


def compute_apart(model: Any, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """As `compute`, of every row without the others and without its padding; what is padded is zero."""
    mask = given.get("attention_mask")
    rows = len(next(iter(given.values())))
    made: list[dict[str, Tensor]] = []
    for row in range(rows):
        own = {name: tensor[row : row + 1] for name, tensor in given.items()}
        if mask is not None:
            own = {name: tensor[:, mask[row].bool()] for name, tensor in own.items()}
        made.append(compute(model, own))
    return {name: _padded([one[name][0] for one in made]) for name in made[0]}


def _padded(rows: list[Tensor]) -> Tensor:
    """Rows of several lengths, on the right as the inputs."""
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    main(make, load)
