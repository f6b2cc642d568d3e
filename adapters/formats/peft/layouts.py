"""The tuners whose tensors are held as PEFT stores them, with PEFT's words and defaults (0.21)."""

from collections.abc import Mapping
from math import isqrt
from typing import Any

import torch

from adapters.formats.peft.layout import Held, Layout, Member

_PLAIN_LORA = frozenset(
    ("lora_dropout", "init_lora_weights", "fan_in_fan_out", "megatron_core", "qalora_group_size", "loftq_config")
)
_ADALORA_TRAINING = frozenset(
    ("r", "target_r", "tinit", "tfinal", "deltaT", "beta1", "beta2", "orth_reg_weight", "total_step", "rank_pattern")
)


def _rank(config: Mapping[str, Any], held: Held) -> dict[str, Any]:
    """That of A: AdaLoRA's is what pruning left of it, and PEFT does not always take HiRA's patterns into account."""
    return {"rank": int(held["A"].shape[0])} if "A" in held else {}


def _boft(config: Mapping[str, Any], held: Held) -> dict[str, Any]:
    """Either the blocks' size or their number is configured."""
    if "R" not in held or held["R"].dim() != 4:
        return {}
    factors, _, block, _ = held["R"].shape
    return {"block": int(block), "factors": int(factors)}


def _gralora(config: Mapping[str, Any], held: Held) -> dict[str, Any]:
    return {"general_rank": config.get("hybrid_r") or 0}


def _miss(config: Mapping[str, Any], held: Held) -> dict[str, Any]:
    kind = config.get("init_weights")
    return {"kind": kind if kind in ("bat", "mini") else "plain"}


def _oft(config: Mapping[str, Any], held: Held) -> dict[str, Any]:
    """PEFT adjusts a block that does not divide the width: the n (n - 1) / 2 stored numbers tell the n that it took."""
    terms = config.get("num_cayley_neumann_terms", 5) if config.get("use_cayley_neumann", False) else 0
    eps = config.get("eps", 6e-5) if config.get("coft") else 0.0
    block = (1 + isqrt(1 + 8 * int(held["weight"].shape[-1]))) // 2 if "weight" in held else 0
    return {"block": block, "terms": terms, "eps": eps}


def _randlora(config: Mapping[str, Any], held: Held) -> dict[str, Any]:
    sparse = "very_sparse" if config.get("very_sparse") else "sparse" if config.get("sparse") else "dense"
    return {"random": sparse}


def _waveft(config: Mapping[str, Any], held: Held) -> dict[str, Any]:
    """The number of entries may be in proportion to the map's size."""
    return {"count": int(held["spectrum"].shape[0])} if "spectrum" in held else {}


def _shira_integer(name: str, said: Mapping[str, Any]) -> torch.dtype | None:
    return torch.int32 if name == "shira_indices" else None


def _vblora_integer(name: str, said: Mapping[str, Any]) -> torch.dtype | None:
    """The least type that holds a place in the bank, among those that PEFT takes."""
    if not name.endswith("_indices"):
        return None
    vectors = said["vectors"]
    return torch.uint8 if vectors < 1 << 8 else torch.int16 if vectors < 1 << 15 else torch.int32


LAYOUTS: Mapping[str, Layout] = {
    "ADALORA": Layout(
        "adalora",
        "lora_",
        {"lora_A": "A", "lora_B": "B", "lora_E": "E"},
        {"init_rank": Member("init_r", 12), "alpha": Member("lora_alpha", 8)},
        _PLAIN_LORA | _ADALORA_TRAINING,
        derived=_rank,
    ),
    "BOFT": Layout(
        "boft",
        "boft_",
        {"boft_R": "R", "boft_s": "s"},
        {},
        frozenset(("boft_dropout", "fan_in_fan_out", "init_weights")),
        derived=_boft,
        derived_from=("boft_block_size", "boft_block_num", "boft_n_butterfly_factor"),
    ),
    "C3A": Layout(
        "c3a",
        "c3a_",
        {"c3a_kernel": "kernel"},
        {"block": Member("block_size", 256, "block_size_pattern", below=True)},
        frozenset(("init_weights",)),
    ),
    "DELORA": Layout(
        "delora",
        "delora_",
        {"delora_A": "A", "delora_B": "B", "delora_lambda": "lambda", "delora_w_norm": "w_norm"},
        {"rank": Member("r", 8, "rank_pattern")},
        frozenset(("delora_lambda", "lambda_pattern", "module_dropout", "init_weights")),
    ),
    "FOURIERFT": Layout(
        "fourierft",
        "fourierft_",
        {"fourierft_spectrum": "spectrum"},
        {
            "count": Member("n_frequency", 1000, "n_frequency_pattern", below=True),
            "scaling": Member("scaling", 150.0),
            "seed": Member("random_loc_seed", 777),
        },
        frozenset(("fan_in_fan_out", "init_weights")),
    ),
    "GRALORA": Layout(
        "gralora",
        "gralora_",
        {
            "gralora_A": "A",
            "gralora_B": "B",
            "gralora_A_general.weight": "A_general",
            "gralora_B_general.weight": "B_general",
        },
        {"blocks": Member("gralora_k", 2), "rank": Member("r", 32), "alpha": Member("alpha", 64)},
        frozenset(("gralora_dropout", "fan_in_fan_out", "init_weights")),
        derived=_gralora,
        derived_from=("hybrid_r",),
    ),
    "HIRA": Layout(
        "hira",
        "hira_",
        {"hira_A": "A", "hira_B": "B"},
        {},
        frozenset(("hira_dropout", "fan_in_fan_out", "init_weights")),
        derived=_rank,
        derived_from=("r", "rank_pattern"),
    ),
    "HRA": Layout(
        "hra",
        "hra_",
        {"hra_u": "u"},
        {"rank": Member("r", 8), "orthogonal": Member("apply_GS", default=False)},
        frozenset(("init_weights",)),
    ),
    "LOHA": Layout(
        "loha",
        "hada_",
        {f"hada_{name}": name for name in ("w1_a", "w1_b", "w2_a", "w2_b")},
        {"rank": Member("r", 8, "rank_pattern"), "alpha": Member("alpha", 8, "alpha_pattern")},
        frozenset(("rank_dropout", "module_dropout", "use_effective_conv2d", "init_weights")),
    ),
    "LOKR": Layout(
        "lokr",
        "lokr_",
        {f"lokr_{name}": name for name in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b")},
        {
            "rank": Member("r", 8, "rank_pattern"),
            "alpha": Member("alpha", 8, "alpha_pattern"),
            "both": Member("decompose_both", default=False),
            "factor": Member("decompose_factor", -1),
        },
        frozenset(("rank_dropout", "rank_dropout_scale", "module_dropout", "use_effective_conv2d", "init_weights")),
    ),
    "MISS": Layout(
        "miss",
        "miss_",
        {"miss_block": "block"},
        {"rank": Member("r", 64), "mini_rank": Member("mini_r", 1)},
        frozenset(("miss_dropout",)),
        derived=_miss,
        derived_from=("init_weights",),
    ),
    "OFT": Layout(
        "oft",
        "oft_",
        {"oft_R.weight": "weight"},
        {"shared": Member("block_share", default=False)},
        frozenset(("module_dropout", "fan_in_fan_out", "init_weights")),
        derived=_oft,
        derived_from=(
            "r",
            "oft_block_size",
            "use_cayley_neumann",
            "num_cayley_neumann_terms",
            "coft",
            "eps",
        ),
    ),
    "RANDLORA": Layout(
        "randlora",
        "randlora_",
        {"randlora_lambda": "lambda", "randlora_gamma": "gamma"},
        {
            "rank": Member("r", 32),
            "alpha": Member("randlora_alpha", 640),
            "stored": Member("save_projection", default=True),
            "seed": Member("projection_prng_key", 0),
        },
        frozenset(("randlora_dropout", "fan_in_fan_out", "init_weights")),
        shared={"randlora_A": "A", "randlora_B": "B"},
        copied=("randlora_A", "randlora_B"),
        derived=_randlora,
        derived_from=("sparse", "very_sparse"),
    ),
    "ROAD": Layout(
        "road",
        "road_",
        {"road_theta": "theta", "road_alpha": "alpha"},
        {"variant": Member("variant", "road_1"), "group": Member("group_size", 64)},
        frozenset(("init_weights",)),
    ),
    "SHIRA": Layout(
        "shira",
        "shira_",
        {"shira_weight": "weight", "shira_indices": "indices"},
        {"rank": Member("r", 32)},
        frozenset(("mask_type", "random_seed", "fan_in_fan_out", "init_weights")),
        integer=_shira_integer,
    ),
    "VBLORA": Layout(
        "vblora",
        "vblora_",
        {
            f"vblora_logits_{matrix}{theirs}": f"{ours}_{matrix}"
            for matrix in "AB"
            for theirs, ours in (("", "logits"), ("_topk_indices", "indices"), ("_topk_weights", "weights"))
        },
        {
            "rank": Member("r", 4),
            "vectors": Member("num_vectors", 256),
            "length": Member("vector_length", 256),
            "best": Member("topk", 2),
            "best_only": Member("save_only_topk_weights", default=False),
        },
        frozenset(("vblora_dropout", "fan_in_fan_out", "init_vector_bank_bound", "init_logits_std")),
        shared={"vblora_vector_bank": "bank"},
        integer=_vblora_integer,
    ),
    "VERA": Layout(
        "vera_vectors",
        "vera_",
        {"vera_lambda_d": "lambda_d", "vera_lambda_b": "lambda_b"},
        {
            "rank": Member("r", 256),
            "stored": Member("save_projection", default=True),
            "seed": Member("projection_prng_key", 0),
        },
        frozenset(("vera_dropout", "d_initial", "fan_in_fan_out", "init_weights")),
        shared={"vera_A": "A", "vera_B": "B"},
    ),
    "WAVEFT": Layout(
        "waveft",
        "waveft_",
        {"waveft_spectrum": "spectrum"},
        {
            "scaling": Member("scaling", 25.0),
            "seed": Member("random_loc_seed", 777),
            "synthesis": Member("use_idwt", default=True),
            "wavelet": Member("wavelet_family", "db1"),
        },
        frozenset(("fan_in_fan_out", "init_weights")),
        derived=_waveft,
        derived_from=("n_frequency", "n_frequency_pattern", "proportional_parameters"),
    ),
}
