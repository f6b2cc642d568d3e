"""What both libraries' workers share: seeded backbones, inputs, a few steps of training, and the folders of a case.

A worker runs under its library's own Python and sees nothing of this repository but the folder that it is in.
"""

import json
import random
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel

VOCABULARY, POSITIONS = 120, 64
SPECIAL = 5  # ids below are padding and its like
ATOL, RTOL = 1e-5, 1e-4
STEPS, RATE = 3, 0.03
NEW_TOKENS = 6
GREEDY: Mapping[str, Any] = {"do_sample": False, "max_new_tokens": NEW_TOKENS, "min_new_tokens": NEW_TOKENS}
CASE, EXPECTED, UNABLE = "case.json", "expected.safetensors", "unable.json"

_NARROW = {"hidden_size": "n_embd", "num_hidden_layers": "n_layer", "num_attention_heads": "n_head"}
_DISTIL = {"hidden_size": "dim", "num_hidden_layers": "n_layers", "num_attention_heads": "n_heads"}
_GROUPED = {"num_key_value_heads": 2, "pad_token_id": 3, "tie_word_embeddings": False}
_Family = tuple[Mapping[str, str], Mapping[str, Any]]
_T5: _Family = (
    {
        "hidden_size": "d_model",
        "num_hidden_layers": "num_layers",
        "num_attention_heads": "num_heads",
        "intermediate_size": "d_ff",
    },
    {"d_kv": 8, "pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0},
)
_BART: _Family = (
    {
        "hidden_size": "d_model",
        "num_hidden_layers": "encoder_layers decoder_layers",
        "num_attention_heads": "encoder_attention_heads decoder_attention_heads",
        "intermediate_size": "encoder_ffn_dim decoder_ffn_dim",
    },
    {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 2},
)
# Family -> (members with other names, or several of them, further members).
FAMILIES: Mapping[str, _Family] = {
    "bert": ({}, {"type_vocab_size": 2, "pad_token_id": 0}),
    "roberta": ({}, {"type_vocab_size": 1, "pad_token_id": 1}),
    "xlm-roberta": ({}, {"type_vocab_size": 1, "pad_token_id": 1}),
    "electra": ({}, {"embedding_size": 16, "pad_token_id": 0}),
    "distilbert": ({**_DISTIL, "intermediate_size": "hidden_dim"}, {"pad_token_id": 0}),
    "albert": ({}, {"embedding_size": 16, "pad_token_id": 0, "num_hidden_groups": 1}),
    "deberta-v2": (
        {},
        {
            "relative_attention": True,
            "position_buckets": 16,
            "max_relative_positions": -1,
            "pos_att_type": ["p2c", "c2p"],
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "position_biased_input": False,
            "type_vocab_size": 0,
            "pad_token_id": 0,
        },
    ),
    "modernbert": (
        {},
        {
            "global_attn_every_n_layers": 2,
            "local_attention": 8,
            "pad_token_id": 1,
            "bos_token_id": 0,
            "eos_token_id": 2,
            "cls_token_id": 0,
            "sep_token_id": 2,
        },
    ),
    "gpt2": (
        {**_NARROW, "max_position_embeddings": "n_positions", "intermediate_size": "n_inner"},
        {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 0},
    ),
    "llama": ({}, _GROUPED),
    "mistral": ({}, {**_GROUPED, "sliding_window": None}),
    "qwen2": ({}, _GROUPED),
    "qwen3": ({}, {**_GROUPED, "head_dim": 8}),
    "t5": _T5,
    "mt5": _T5,
    "bart": _BART,
    "mbart": _BART,
    "vit": ({}, {"image_size": 16, "patch_size": 4, "num_channels": 3}),
}
SEGMENTED = ("bert", "albert", "electra")
SECOND_ROW = 5  # tokens of a decoder's row
SECOND_IDS = "decoder_input_ids"


class Unable(Exception):
    """The library itself can not make, save, load or run this; says why."""


def backbone(family: str, rng: random.Random, folder: Path, sort: Any = AutoModel, **settings: Any) -> None:
    """Save a small random model of a family: drawn sizes, weights large enough for every adapter to matter.

    `sort`: transformers' class, of which a language model's own head is saved as well. `settings`: further ones.
    """
    names, more = FAMILIES[family]
    more = {**more, **settings}
    sizes = {
        "hidden_size": rng.choice((32, 48, 64)),
        "num_hidden_layers": rng.choice((2, 3)),
        "num_attention_heads": 4,
        "intermediate_size": rng.choice((48, 64, 96)),
        "max_position_embeddings": POSITIONS,
        "vocab_size": VOCABULARY,
    }
    if family == "vit":
        sizes = {key: value for key, value in sizes.items() if key not in ("max_position_embeddings", "vocab_size")}
    named = {name: value for key, value in sizes.items() for name in names.get(key, key).split()}
    config = AutoConfig.for_model(family, **named, **more)
    torch.manual_seed(rng.getrandbits(32))
    model = sort.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() < 2:
                parameter.add_(0.1 * torch.randn_like(parameter))
            else:
                parameter.copy_(0.7 * torch.randn_like(parameter) / parameter.shape[-1] ** 0.5)
    model.save_pretrained(folder)


def inputs(config: Any, rng: random.Random, *, choices: int = 0, even: bool = False) -> dict[str, Tensor]:
    """Three rows (with `choices`, two questions) of drawn lengths, padded on the right; or three images.

    `even`: of one length, where the library's own outputs of a row depend on its padding.
    """
    if config.model_type == "vit":
        generator = torch.Generator().manual_seed(rng.getrandbits(32))
        side = config.image_size
        return {"pixel_values": torch.randn(3, config.num_channels, side, side, generator=generator)}
    rows = 2 * choices or 3
    lengths = [rng.randint(6, 20) for _ in range(rows)]
    lengths = lengths[:1] * rows if even else lengths
    ids = torch.full((rows, max(lengths)), config.pad_token_id)
    mask = torch.zeros_like(ids)
    for row, length in enumerate(lengths):
        ids[row, :length] = torch.tensor([rng.randrange(SPECIAL, VOCABULARY) for _ in range(length)])
        mask[row, :length] = 1
    given = {"input_ids": ids, "attention_mask": mask}
    if config.model_type in SEGMENTED:
        given["token_type_ids"] = (mask.cumsum(1) > 4).long() * mask
    return {key: value.view(2, choices, -1) for key, value in given.items()} if choices else given


def second_rows(config: Any, given: Mapping[str, Tensor], rng: random.Random, *, whole: bool) -> dict[str, Tensor]:
    """The decoder's rows of an encoder-decoder, of one length; none for others.

    `whole`: the encoder's own, which end with the end's token where a head looks for it, moved by one place.
    """
    if not config.is_encoder_decoder:
        return {}
    if whole:
        ids = given["input_ids"].clone()
        ids[torch.arange(len(ids)), given["attention_mask"].sum(1) - 1] = config.eos_token_id
        start = torch.full_like(ids[:, :1], config.decoder_start_token_id)
        return {"input_ids": ids, SECOND_IDS: torch.cat([start, ids[:, :-1]], 1)}
    drawn = [[rng.randrange(SPECIAL, VOCABULARY) for _ in range(SECOND_ROW - 1)] for _ in given["input_ids"]]
    return {SECOND_IDS: torch.tensor([[config.decoder_start_token_id, *row] for row in drawn])}


def train(model: nn.Module, parameters: Iterable[nn.Parameter], outputs: Callable[[], Sequence[Tensor]]) -> None:
    """A few steps towards random targets, which is how parameters get the values that training can give them."""
    trained = list(parameters)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for parameter in trained:
        parameter.requires_grad_(True)
    model.eval()
    optimizer = torch.optim.Adam(trained, lr=RATE)
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = sum((output.float() * torch.randn_like(output)).mean() for output in outputs())
        if not isinstance(loss, Tensor) or not loss.requires_grad:
            raise Unable("nothing trains")
        loss.backward()
        optimizer.step()


def doubled(given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Inputs for a model in float64."""
    return {name: tensor.double() if tensor.is_floating_point() else tensor for name, tensor in given.items()}


def rounding_of(found: Mapping[str, Tensor], exactly: Callable[[], Mapping[str, Tensor]]) -> dict[str, float]:
    """How far the library's own float32 is from its float64, by output; nothing where it does not run in float64."""
    try:
        exact = exactly()
    except Exception:  # a tuner that makes float32 on its way
        return {}
    told = {name: float((tensor - exact[name]).abs().max()) for name, tensor in found.items()}
    return {name: rounding for name, rounding in told.items() if rounding < float("inf")}  # nor is NaN


def keep(folder: Path, case: Mapping[str, Any], given: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Write a case's description, inputs and outputs."""
    if not all(bool(torch.isfinite(tensor).all()) for tensor in found.values()):
        raise Unable("the library's own outputs are not finite")
    whole = {"atol": ATOL, "rtol": RTOL, "expected": {"file": EXPECTED}, **case}
    (folder / CASE).write_text(json.dumps(whole, indent=1, sort_keys=True))
    stored = {f"input.{name}": tensor for name, tensor in given.items()} | dict(found)
    save_file({name: tensor.detach().contiguous().clone() for name, tensor in stored.items()}, folder / EXPECTED)


def kept(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A case's description, and its inputs as the library takes them."""
    case = json.loads((folder / CASE).read_text())
    stored = load_file(folder / EXPECTED)
    return case, {name.removeprefix("input."): t for name, t in stored.items() if name.startswith("input.")}


def main(make: Callable[[str, int, Path], None], load: Callable[[Path], None]) -> None:
    """`make ROOT NAME=SEED ...` and `load ROOT NAME ...`, cases below `root/<library>/`; what can not be is said.

    Each case is its own: a file `unable.json` with the reason stands where one could not be made or loaded.
    """
    verb, root, *names = sys.argv[1:]
    torch.set_num_threads(1)
    for name in names:
        case, _, seed = name.partition("=")
        folder = Path(root) / case
        folder.mkdir(parents=True, exist_ok=True)
        try:
            if verb == "make":
                torch.manual_seed(int(seed))
                make(case, int(seed), folder)
            else:
                load(folder)
        except Exception as error:
            where = "" if isinstance(error, Unable) else traceback.format_exc(limit=-3)
            said = {"reason": f"{type(error).__name__}: {str(error)[:300]}", "where": where}
            (folder / UNABLE).write_text(json.dumps(said))
