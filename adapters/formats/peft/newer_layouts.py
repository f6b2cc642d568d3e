"""The newer ones of the tuners whose tensors are held as PEFT stores them (see `layouts`)."""

from collections.abc import Mapping
from typing import Any

import torch

from adapters.errors import Misfit
from adapters.formats.peft.layout import Held, Layout, Member
from adapters.methods.settings import is_number

DEEPEST = 64  # of PEANuT's networks


def _always(config: Mapping[str, Any]) -> bool:
    return True


def _said(config: Mapping[str, Any], name: str, default: float) -> Any:
    """A number that is computed with here; the default where none is said."""
    value = config.get(name)
    value = default if value is None else value
    if not is_number(value):
        raise Misfit([f"{name} must be a number, not {value!r}"])
    return value


def _deft(config: Mapping[str, Any], held: Held) -> dict[str, Any]:
    """PEFT cuts a rank that is wider than the map's output, and divides by what is left."""
    rank, alpha = int(held["P"].shape[-1]) if "P" in held else 0, _said(config, "alpha", 0)
    return {"rank": rank, "scaling": alpha / rank if alpha and rank else 1.0}


def _frod(config: Mapping[str, Any], held: Held) -> dict[str, Any]:
    """What the maps share is built of them where it is not stored."""
    found: dict[str, Any] = {"count": int(held["values"].numel()) if "values" in held else 0}
    if not _frod_built(config):
        return found
    ridge, seed = _said(config, "regularization_alpha", 1e-3), _said(config, "projection_prng_key", 0)
    return found | {"built": True, "seed": seed, "ridge": ridge}


def _frod_built(config: Mapping[str, Any]) -> bool:
    return config.get("save_projection") is False


def _category(config: Mapping[str, Any], path: str, index: int, count: int) -> dict[str, Any]:
    """The kind of a map, by which PEFT names what maps share: mostly the last two names of its path."""
    names = path.split(".")
    if names[-2:] == ["output", "dense"] and names[-3:-2] == ["attention"]:
        return {"category": "attention_output"}
    return {"category": names[-1] if len(names) == 1 or names[-2].isdigit() else "_".join(names[-2:])}


def _frod_integer(name: str, said: Mapping[str, Any]) -> torch.dtype | None:
    return torch.int64 if name.startswith("frod_s_") else None


def _osf(config: Mapping[str, Any], held: Held) -> dict[str, Any]:
    """What is kept of a map may be said as a number or as a share, by pattern; the rest is stored."""
    return {"rank": int(held["S"].numel()) if "S" in held else 0}


def _psoft(config: Mapping[str, Any], held: Held) -> dict[str, Any]:
    series = config.get("use_cayley_neumann", False)
    return {
        "sampled": config.get("psoft_svd", "full") == "lowrank",
        "terms": config.get("num_cayley_neumann_terms", 5) if series else 0,
        "eps": config.get("cayley_neumann_eps") or 0.0 if series else 0.0,
    }


def _supertuning(config: Mapping[str, Any], held: Held) -> dict[str, Any]:
    """The number of entries follows from the map's size."""
    rank = _said(config, "r", 0)
    count = int(held["values"].numel()) if "values" in held else 0
    return {"count": count, "rank": rank, "alpha": _said(config, "lora_alpha", 2 * rank)}


def _tinylora(config: Mapping[str, Any], held: Held) -> dict[str, Any]:
    """The rank is that of the map, where it has less."""
    return {"rank": int(held["A"].shape[0]) if "A" in held else 0, "stored": "P" in held}


def _group(config: Mapping[str, Any], path: str, index: int, count: int) -> dict[str, Any]:
    """Neighbours share a vector, whatever is left over the last one; a seed counts the maps."""
    groups = max(1, round(count * (1.0 - _said(config, "weight_tying", 0.0))))
    group = min(index // max(1, count // groups), groups - 1)
    return {"group": group, "seed": _said(config, "projection_seed", 42) + index}


def _supertuning_integer(name: str, said: Mapping[str, Any]) -> torch.dtype | None:
    return torch.int32 if name == "supertuning_indices" else None


NEWER_LAYOUTS: Mapping[str, Layout] = {
    "BEFT": Layout("beft", "beft_", {"beft_bias": "bias"}, {}, frozenset(("init_weights",))),
    "DEFT": Layout(
        "deft",
        "deft_",
        {"deft_P": "P", "deft_R": "R"},
        {"projection": Member("decomposition_method", "relu"), "removes_only": Member("para", default=False)},
        frozenset(("r", "init_scale", "deft_dropout", "fan_in_fan_out", "init_weights")),
        derived=_deft,
        derived_from=("alpha",),
    ),
    "FROD": Layout(
        "frod",
        "frod_",
        {"frod_lambda_l": "l", "frod_lambda_s_values": "values"},
        {},
        frozenset(
            (
                "frod_dropout",
                "sparse_rate",
                "progressbar",
                "runtime_offload_base_weight",
                "fan_in_fan_out",
                "init_weights",
            )
        ),
        derived=_frod,
        derived_from=("save_projection", "projection_prng_key", "regularization_alpha"),
        lists={"frod_V": "V", "frod_s_indices": "places", "frod_s_size": "size"},
        placed=_category,
        integer=_frod_integer,
    ),
    "OSF": Layout(
        "osf",
        "osf_",
        {f"osf_svd_params.{name}_low": name for name in "USV"},
        {},
        frozenset(("target_svd_config", "init_weights")),
        derived=_osf,
        derived_from=("effective_rank", "rank_pattern"),
    ),
    "PEANUT": Layout(
        "peanut",
        "peanut_",
        {f"peanut_{name}.weight": name for name in "AB"}
        | {f"peanut_{kind}s.{i}.weight": f"{kind}.{i}" for kind in ("encoder", "decoder") for i in range(DEEPEST)},
        {
            "rank": Member("r", 32),
            "depth": Member("depth", 0),
            "activation": Member("act_fn", "relu"),
            "scaling": Member("scaling", 1.0),
        },
        frozenset(("init_weights",)),
    ),
    "POLY": Layout(
        "poly",
        "poly_",
        {"poly_lora_A": "A", "poly_lora_B": "B", "poly_router.module_logits": "logits"},
        {"rank": Member("r", 8), "splits": Member("n_splits", 1), "skills": Member("n_skills", 4)},
        frozenset(("poly_type", "n_tasks", "init_weights")),
    ),
    "PSOFT": Layout(
        "psoft",
        "psoft_",
        {f"psoft_R.{name}": name for name in ("weight", "vector_a", "vector_b")},
        {
            "rank": Member("r", 32),
            "start": Member("ab_svd_init", "psoft_init"),
            "iterations": Member("psoft_svd_lowrank_niter", 10),
            "seed": Member("random_seed", 0),
            "orthogonal": Member("psoft_orth", default=True),
            "scales_a": Member("psoft_mag_a", default=True),
            "scales_b": Member("psoft_mag_b", default=True),
        },
        frozenset(("psoft_alpha", "psoft_dropout", "fan_in_fan_out", "init_weights")),
        derived=_psoft,
        derived_from=("psoft_svd", "use_cayley_neumann", "num_cayley_neumann_terms", "cayley_neumann_eps"),
    ),
    "PVERA": Layout(
        "pvera",
        "pvera_",
        {"pvera_lambda_d": "lambda_d", "pvera_lambda_b": "lambda_b"},
        {
            "rank": Member("r", 256),
            "stored": Member("save_projection", default=True),
            "seed": Member("projection_prng_key", 0),
        },
        frozenset(("pvera_dropout", "d_initial", "generator_seed", "fan_in_fan_out", "init_weights")),
        shared={"pvera_A": "A", "pvera_B": "B"},
        only={"sample_at_inference": False},
    ),
    "SUPERTUNING": Layout(
        "supertuning",
        "supertuning_",
        {
            "supertuning_values": "values",
            "supertuning_indices": "places",
            "supertuning_lora_A.weight": "A",
            "supertuning_lora_B.weight": "B",
        },
        {
            "stored": Member("save_precomputed_indices", default=True),
            "largest": Member("select_top", default=True),
        },
        frozenset(("sparsity", "lora_dropout", "init_weights")),
        derived=_supertuning,
        derived_from=("r", "lora_alpha"),
        integer=_supertuning_integer,
    ),
    "TINYLORA": Layout(
        "tinylora",
        "tinylora_",
        {f"tinylora_{name}": name for name in "ABP"},
        {"turns": Member("u", 64)},
        frozenset(("r", "save_projection", "init_v_bound", "tinylora_dropout", "fan_in_fan_out", "init_weights")),
        derived=_tinylora,
        derived_from=("weight_tying", "projection_seed"),
        lists={"tinylora_v": "v"},
        placed=_group,
        ordered=_always,
    ),
}
