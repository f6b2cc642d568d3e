"""The latest of PEFT's tuners: their configurations, and what is drawn of their settings."""

import random
from collections.abc import Callable, Mapping
from typing import Any

Settings = Callable[[random.Random], dict[str, Any]]
SECOND_LAYER = r".*\.1\..*"


def some(**more: Any) -> Settings:
    """Of every setting one of its values."""
    return lambda rng: {key: rng.choice(values) for key, values in more.items()}


def in_layers(settings: Settings, **patterns: Any) -> Settings:
    """The same, with another value of each pattern in the second layer of half of all draws."""

    def drawn(rng: random.Random) -> dict[str, Any]:
        made = settings(rng)
        own = {name: {SECOND_LAYER: rng.choice(values)} for name, values in patterns.items()}
        return made | (own if rng.random() < 0.5 else {})

    return drawn


def _osf(rng: random.Random) -> dict[str, Any]:
    rank = rng.choice((None, 4, 12, 0.5))
    return {"effective_rank": rank, "rank_pattern": rng.choice((None, {"1": 6})) if rank is not None else None}


def _psoft(rng: random.Random) -> dict[str, Any]:
    series = rng.random() < 0.4
    more = {"num_cayley_neumann_terms": rng.choice((3, 5)), "cayley_neumann_eps": rng.choice((None, 0.9))}
    return {
        "r": rng.choice((2, 4)),
        "psoft_alpha": rng.choice((2, 4)),
        "ab_svd_init": rng.choice(("psoft_init", "pissa_init")),
        "psoft_orth": rng.random() < 0.7,
        "psoft_mag_a": rng.random() < 0.5,
        "psoft_mag_b": rng.random() < 0.5,
        "use_cayley_neumann": series,
        **(more if series else {}),
    }


def _supertuning(rng: random.Random) -> dict[str, Any]:
    rank = rng.choice((None, 2, 4))
    return {
        "sparsity": rng.choice((0.9, 0.99)),
        "select_top": rng.random() < 0.5,
        "r": rank,
        "lora_alpha": rng.choice((None, 6)) if rank else None,
        "save_precomputed_indices": rng.random() < 0.5,
    }


# Tuner -> (configuration, settings).
LATEST: Mapping[str, tuple[str, Settings]] = {
    "adamss": (
        "AdamssConfig",
        some(
            r=(4, 12, 100),
            num_subspaces=(2, 5),
            subspace_rank=(1, 4),
            random_seed=(0, 3),
            use_dynamic_rank=(False, True),
            svd_threshold=(0.1, 0.5),
            init_weights=("orthogonal", None),
        ),
    ),
    "glora": (
        "GloraConfig",
        some(
            r=(2, 4),
            config_A_B=("lora", "vector", "constant", "none"),
            config_C=("lora", "vector", "none"),
            config_D_E=("vector", "constant", "none"),
            init_weights=(True, False),
        ),
    ),
    "beft": ("BeftConfig", some()),
    "deft": (
        "DeftConfig",
        some(r=(2, 4), decomposition_method=("relu", "qr"), alpha=(None, 6), para=(False, True)),
    ),
    "osf": ("OSFConfig", _osf),
    "peanut": (
        "PeanutConfig",
        some(r=(2, 4), depth=(0, 1, 2), act_fn=("relu", "gelu", "tanh"), scaling=(1.0, 0.5)),
    ),
    "psoft": ("PsoftConfig", _psoft),
    "pvera": (
        "PveraConfig",
        some(r=(2, 8), save_projection=(True, False), projection_prng_key=(0, 3), d_initial=(0.1, 0.5)),
    ),
    "supertuning": ("SupertuningConfig", _supertuning),
    "tinylora": (
        "TinyLoraConfig",
        some(
            r=(1, 2),
            u=(4, 16),
            weight_tying=(0.0, 0.5, 1.0),
            projection_seed=(42, 7),
            save_projection=(True, False),
        ),
    ),
    "lily": ("LilyConfig", some(r=(3, 8), stride_A=(1, 2), num_B=(2, 3), scaling=(0.5, 2.0))),
    "unilora": (
        "UniLoraConfig",
        some(r=(2, 4), theta_d_length=(50, 256), proj_seed=(42, 3), save_indices=(False, True)),
    ),
    "frod": (
        "FrodConfig",
        some(
            sparse_rate=(0.0, 0.01, 0.1),
            save_projection=(True, False),
            projection_prng_key=(0, 5),
            regularization_alpha=(1e-3, 0.1),
            progressbar=(False,),
        ),
    ),
}
