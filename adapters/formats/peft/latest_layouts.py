"""The latest of the tuners whose tensors are held as PEFT stores them (see `layouts`)."""

from collections.abc import Mapping
from itertools import count, takewhile
from typing import Any

import torch

from adapters.formats.peft.layout import Held, Layout, Member

MOST = 256  # of AdaMSS' groups


def _adamss(config: Mapping[str, Any], held: Held) -> dict[str, Any]:
    """PEFT cuts the number of directions and the ranks of groups to what a map has."""
    directions, columns = held["newB"].shape if "newB" in held and held["newB"].dim() == 2 else (0, 0)
    groups = [list(held[f"B.{i}"].shape) for i in takewhile(lambda i: f"B.{i}" in held, count())]
    return {"directions": int(directions), "columns": int(columns), "groups": groups}


def _glora(config: Mapping[str, Any], held: Held) -> dict[str, Any]:
    """A map without a bias has nothing that would change it, whatever the configuration says."""
    kinds = (("weights", "A", "config_A_B"), ("coupling", "C", "config_C"), ("biases", "D", "config_D_E"))
    defaults = {"weights": "lora", "coupling": "lora", "biases": "constant"}
    return {
        setting: "none" if f"{letter}.zeros" in held else config.get(member, defaults[setting])
        for setting, letter, member in kinds
    }


def _place(config: Mapping[str, Any], path: str, index: int, of: int) -> dict[str, Any]:
    return {"place": index}


def _unstored(config: Mapping[str, Any]) -> bool:
    return not config.get("save_indices", False)


def _unilora_integer(name: str, said: Mapping[str, Any]) -> torch.dtype | None:
    return torch.int64 if name.startswith("unilora_indices_") else None


LATEST_LAYOUTS: Mapping[str, Layout] = {
    "ADAMSS": Layout(
        "adamss",
        "adamss_",
        {"adamss_newB": "newB"} | {f"adamss_{name}.{i}": f"{name}.{i}" for name in "AB" for i in range(MOST)},
        {"seed": Member("random_seed", 0)},
        frozenset(
            (
                "r",
                "num_subspaces",
                "subspace_rank",
                "init_weights",
                "use_asa",
                "asa_target_subspaces",
                "init_warmup",
                "final_warmup",
                "mask_interval",
                "asa_importance_beta",
                "asa_uncertainty_beta",
                "asa_schedule_exponent",
                "use_dynamic_rank",
                "svd_threshold",
            )
        ),
        derived=_adamss,
    ),
    "GLORA": Layout(
        "glora",
        "glora_",
        {f"glora_{letter}.{name}": f"{letter}.{name}" for letter in "ABCDE" for name in ("Xd", "Xu", "X", "zeros")},
        {"rank": Member("r", 8)},
        frozenset(("init_weights",)),
        derived=_glora,
        derived_from=("config_A_B", "config_C", "config_D_E"),
    ),
    "LILY": Layout(
        "lily",
        "lily_",
        {"lily_A.weight": "A", "lily_B.weight": "B", "lily_router.weight": "router"},
        {"rank": Member("r", 32), "experts": Member("num_B", 2), "scaling": Member("scaling", 1.0)},
        frozenset(("stride_A", "init_weights")),
    ),
    "UNILORA": Layout(
        "unilora",
        "unilora_",
        {f"unilora_{kind}_{matrix}": f"{kind}_{matrix}" for kind in ("indices", "scales") for matrix in "AB"},
        {
            "rank": Member("r", 4),
            "length": Member("theta_d_length", 256),
            "seed": Member("proj_seed", 42),
            "stored": Member("save_indices", default=False),
        },
        frozenset(("unilora_dropout", "fan_in_fan_out", "init_theta_d_bound", "init_weights")),
        shared={"unilora_theta_d": "theta"},
        integer=_unilora_integer,
        placed=_place,
        ordered=_unstored,
        unnamed=_unstored,
    ),
}
