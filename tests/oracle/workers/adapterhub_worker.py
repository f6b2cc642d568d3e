"""AdapterHub's side of the round trip: draw, train, save and run; and load what somebody wrote, and run it."""

import logging
import random
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from adapter_draws import INTERFACED, Draw, draw
from shared import GREEDY, SECOND_IDS, Unable, backbone, inputs, keep, kept, main, second_rows, train
from torch import Tensor, nn
from transformers import AutoModel

import adapters
import adapters.composition as blocks

BLOCKS = {
    "stack": blocks.Stack,
    "fuse": blocks.Fuse,
    "average": blocks.Average,
    "split": blocks.Split,
    "parallel": blocks.Parallel,
    "batch_split": blocks.BatchSplit,
    "multi_task": blocks.MultiTask,
}
# A map of queries, keys and values without a bias gets a random one of the library's, another at every opening.
_WHOLE: Mapping[str, Mapping[str, Any]] = {"modernbert": {"attention_bias": True}}
OUTPUTS = ("logits", "start_logits", "end_logits", "arc_preds", "rel_preds")


def make(name: str, seed: int, folder: Path) -> None:
    """Draw a case from a seed, and save it as the library does."""
    rng = random.Random(seed)
    root = folder.parent.parent
    drawn = draw(rng, seed)
    place = root / "backbones" / name
    backbone(drawn.family, rng, place, **_WHOLE.get(drawn.family, {}))
    model = open_model(place)
    drawn.build(model, rng)
    given = inputs(model.config, rng, choices=drawn.choices, even=drawn.even)
    given |= second_rows(model.config, given, rng, whole=drawn.whole)
    case: dict[str, Any] = {
        **drawn.said,
        "backbone": name,
        "library": "adapterhub",
        "inputs": inputs_of(given, drawn.choices),
        "inputs_kind": kind_of(given),
        "decoder_inputs": given[SECOND_IDS].tolist() if SECOND_IDS in given else None,
        "generate": GREEDY if drawn.speaks else None,
    }
    if "input_ids" in given:
        share(case["composition"], given["input_ids"].shape[-1])
    if drawn.head_type == "dependency_parsing":
        case["word_starts"] = word_starts(given, rng)
    if drawn.vocabulary:
        add_vocabulary(model, drawn.vocabulary)
    activate(model, case)
    parameters = [parameter for key, parameter in model.named_parameters() if drawn.trains(key)]
    train(model, parameters, lambda: list(compute(model, case, given).values()))
    save(model, drawn, case, folder)
    keep(folder, case, given, {})
    load(folder)  # what a folder means is what the library computes after loading it: a DiReFT comes back as a NoReFT


def load(folder: Path) -> None:
    """Load the folders that a case names, and compute its outputs in the place of those that are there."""
    case, given = kept(folder)
    model = open_model(folder.parent.parent / "backbones" / case["backbone"])
    for item in case["adapters"]:
        place = folder / item["path"]
        safe = (place / "adapter.safetensors").is_file()
        model.load_adapter(str(place), load_as=item["name"], with_head=True, use_safetensors=safe)
    for item in case["fusions"]:
        model.load_adapter_fusion(str(folder / item["path"]), load_as=item["name"], use_safetensors=True)
    for item in case["heads"]:
        if item["path"].startswith("heads/"):
            place = folder / item["path"]
            safe = (place / "model_head.safetensors").is_file()
            model.load_head(str(place), load_as=item["name"], use_safetensors=safe)
    if case.get("embedding"):
        model.load_embeddings(str(folder / case["embedding"]["path"]), case["embedding"]["name"])
        model.set_active_embeddings(case["embedding"]["name"])
    activate(model, case)
    model.eval()
    with torch.no_grad():
        found = compute(model, case, given)
        if case.get("generate"):
            asked = {name: tensor for name, tensor in given.items() if name != SECOND_IDS}
            # Cached, its LLaMA and Mistral go on with other tokens than those that they score highest.
            found["generated"] = model.generate(**asked, **case["generate"], use_cache=False)
        keep(folder, case, given, found)


def open_model(place: Path) -> Any:
    """The library's model of a backbone's folder; families that it has no classes of its own for, by an interface."""
    config = AutoModel.from_pretrained(place).config
    if config.model_type not in INTERFACED:
        model = adapters.AutoAdapterModel.from_pretrained(place, attn_implementation="eager")
        return model.eval()
    model = AutoModel.from_pretrained(place, attn_implementation="eager")
    adapters.init(model, interface=adapters.AdapterModelInterface(**INTERFACED[config.model_type]))
    return model.eval()


def activate(model: Any, case: Mapping[str, Any]) -> None:
    """The case's composition and head."""
    skip = case.get("skip_layers") or None
    model.set_active_adapters(block(case["composition"]), skip_layers=skip)
    if hasattr(model, "active_head"):
        setup = case["composition"]
        parts = next(
            (setup[key] for key in ("parallel", "batch_split") if isinstance(setup, dict) and key in setup), None
        )
        if case["head"] is not None:
            model.active_head = case["head"]["name"]
        elif parts and case["heads"]:
            last = [names(part)[-1] for part in parts]
            sizes = setup.get("batch_sizes")
            model.active_head = blocks.BatchSplit(*last, batch_sizes=sizes) if sizes else blocks.Parallel(*last)
        else:
            model.active_head = None


def block(value: Any) -> Any:
    """A composition in the library's own classes."""
    if isinstance(value, str):
        return value
    kind = next(key for key in BLOCKS if key in value)
    more = {key: item for key, item in value.items() if key != kind}
    return BLOCKS[kind](*map(block, value[kind]), **more)


def names(value: Any) -> list[str]:
    """The adapters of a composition, in order."""
    if isinstance(value, str):
        return [value]
    return [name for key in BLOCKS if key in value for child in value[key] for name in names(child)]


def compute(model: Any, case: Mapping[str, Any], given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Hidden states of the base model, and what the active head answers."""
    flat = {k: v.view(-1, v.shape[-1]) if k != "pixel_values" else v for k, v in given.items()}
    tasks = {"task_ids": torch.tensor(case["task_ids"])} if case.get("task_ids") else {}
    base = model.base_model if hasattr(model, "active_head") else model
    states = base(**flat, **tasks)
    found = {"hidden_state": states.last_hidden_state}
    if SECOND_IDS in given:
        found["encoder_hidden_state"] = states.encoder_last_hidden_state
    if not case["heads"]:
        return found
    more = {"word_starts": torch.tensor(case["word_starts"])} if case.get("word_starts") else {}
    answered = model(**given, **tasks, **more)
    if hasattr(answered, "head_outputs"):
        return found | {f"head_output.{i}.logits": part.logits for i, part in enumerate(answered.head_outputs)}
    for name in OUTPUTS:
        if getattr(answered, name, None) is not None:
            found[name] = getattr(answered, name)
    if len(found) == 1:
        raise Unable(f"a head that answers {type(answered).__name__}")
    return found


def save(model: Any, drawn: Draw, case: dict[str, Any], folder: Path) -> None:
    """Everything that was added, in folders of its own; a whole setup beside them where one was drawn."""
    for place in ("adapters", "fusions", "heads", "embeddings"):  # the library makes one folder, not those above it
        (folder / place).mkdir(exist_ok=True)
    with_heads = {item["name"] for item in drawn.heads}
    for name in drawn.adapters:
        place = str(folder / "adapters" / name)
        safely(partial(model.save_adapter, place, name, with_head=name in with_heads))
    for name in drawn.fusions:
        model.save_adapter_fusion(str(folder / "fusions" / name), name, use_safetensors=True)
    for item in case["heads"]:
        if item["path"].startswith("heads/"):
            place = str(folder / item["path"])
            safely(partial(model.save_head, place, item["name"]))
    if drawn.vocabulary:
        model.save_embeddings(str(folder / "embeddings" / drawn.vocabulary), drawn.vocabulary)
    if drawn.setup:
        head = case["head"]["name"] if case["head"] else None
        setup = block(case["composition"])
        safely(partial(model.save_adapter_setup, str(folder / "setup"), setup, head_setup=head))
        case["setup_path"] = "setup"


def safely(save: Callable[..., None]) -> None:
    """Save as safetensors, or, where the library can not because tensors share their memory, as it does by default."""
    try:
        save(use_safetensors=True)
    except RuntimeError as error:
        if "share memory" not in str(error):
            raise
        save(use_safetensors=False)


def share(value: Any, length: int) -> None:
    """Let the last part of every split reach to the end of rows of this length."""
    if not isinstance(value, dict):
        return
    if "splits" in value:
        value["splits"][-1] = length - sum(value["splits"][:-1])
    for child in next(value[key] for key in BLOCKS if key in value):
        share(child, length)


def add_vocabulary(model: Any, name: str) -> None:
    """A vocabulary of random vectors, as wide as the backbone's own."""
    own = model.get_input_embeddings()
    made = nn.Embedding(own.num_embeddings, own.embedding_dim, padding_idx=own.padding_idx)
    with torch.no_grad():
        made.weight.mul_(0.5)
    model.loaded_embeddings[name] = made
    model.set_active_embeddings(name)


def inputs_of(given: Mapping[str, Tensor], choices: int) -> Sequence[Any]:
    """Placeholders for texts: the backbone has no tokenizer, so that the stored ids hold."""
    return [["", [""] * choices]] * 2 if choices else [""] * len(next(iter(given.values())))


def kind_of(given: Mapping[str, Tensor]) -> str:
    """What the conformance format calls such inputs."""
    if "pixel_values" in given:
        return "pixel_values"
    return "choices" if given["input_ids"].dim() == 3 else "texts"


def word_starts(given: Mapping[str, Tensor], rng: random.Random) -> list[list[int]]:
    """Drawn starts of words per row, the end of the last among them, padded with zeros."""
    rows = []
    for length in given["attention_mask"].sum(1).tolist():
        starts = sorted(rng.sample(range(1, length), k=rng.randint(3, length - 2)))
        rows.append(starts)
    most = max(map(len, rows))
    return [row + [0] * (most - len(row)) for row in rows]


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    main(make, load)
