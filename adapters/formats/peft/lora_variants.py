"""PEFT's variants of LoRA that compute as LoRA does once they are trained, read as the LoRA that they are.

VeLoRA (arXiv:2405.17991) compresses what training keeps, MonteCLoRA (arXiv:2411.04358) varies A while it trains: what
they store beside the factors counts no longer. BD-LoRA has block-diagonal factors, of which the blocks are stored.
KaSA (arXiv:2412.06071) scales B A by a diagonal between them, and takes the least singular vectors out of the frozen map
(`adapters.methods.lora_start`).
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from adapters.errors import Misfit
from adapters.formats.peft.tuner import Saved

DIAGONAL = "lora_diag"
KASA = "kasa"
# Settings of variants -> what their keys hold that counts in training alone.
_TRAINING = {"velora_config": "lora_velora_", "monteclora_config": "lora_monteclora_"}
_BLOCKS = "use_bdlora"
_MOST_BLOCKS = 256  # a package that is read here has as many zeros for every stored number
_A, _B = ".lora_A.weight", ".lora_B.weight"


def start_of(config: Mapping[str, Any]) -> Any:
    """What `init_lora_weights` says, or the start that a variant is."""
    return KASA if config.get("kasa_config") else config.get("init_lora_weights")


def plain(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> tuple[Mapping[str, Any], Mapping[str, Tensor]]:
    """(the configuration, the tensors) of the same adapter as a plain LoRA; raises `Misfit` for blocks that do not fit.

    KaSA has no plain form: see `scaled`.
    """
    if config.get("peft_type") != "LORA":
        return config, tensors
    dropped = [stem for setting, stem in _TRAINING.items() if config.get(setting)]
    kept = {key: t for key, t in tensors.items() if not any(f".{stem}" in key for stem in dropped)}
    blocks = config.get(_BLOCKS)
    if blocks:
        kept = {key: _whole(key, tensor, blocks) for key, tensor in kept.items()}
    if not dropped and not blocks:
        return config, tensors
    return {**config, **dict.fromkeys((*_TRAINING, _BLOCKS))}, kept


def scaled(saved: Saved) -> Saved:
    """KaSA's folder with its diagonal multiplied into B; others as they are."""
    if not saved.config.get("kasa_config"):
        return saved
    ends = f".{DIAGONAL}"
    diagonals = {key.removesuffix(ends): tensor for key, tensor in saved.tensors.items() if key.endswith(ends)}
    kept: dict[str, Tensor] = {}
    for key, tensor in saved.tensors.items():
        if key.endswith(_B):
            path = key.removesuffix(_B)
            if path not in diagonals or diagonals[path].shape != tensor.shape[1:]:
                raise Misfit([f"{path} has no {DIAGONAL} of its rank, which KaSA stores"])
            kept[key] = tensor * diagonals[path]
        elif not key.endswith(ends):
            kept[key] = tensor
    return replace(saved, tensors=kept)


def _whole(key: str, tensor: Tensor, blocks: Any) -> Tensor:
    """A factor from its blocks, which stand one below the other: [n, m / blocks] -> [n, m]."""
    if not isinstance(blocks, Mapping) or not key.endswith((_A, _B)):
        return tensor
    end, setting = (_A, "target_modules_bd_a") if key.endswith(_A) else (_B, "target_modules_bd_b")
    name = key.removesuffix(end).rpartition(".")[2]
    names, count = blocks.get(setting) or (), blocks.get("nblocks", 1)
    if not any(str(part) in name for part in names):
        return tensor
    if type(count) is not int or tensor.dim() != 2 or not 0 < count <= _MOST_BLOCKS or len(tensor) % count:
        raise Misfit([f"{key} has {list(tensor.shape)} entries, which are not {count!r} blocks"])
    whole: Tensor = torch.block_diag(*tensor.chunk(count))  # type: ignore[no-untyped-call]
    return whole
