"""The latest of PEFT's tuners: their configurations, and what is drawn of their settings."""

import random
from collections.abc import Callable, Mapping
from typing import Any

Settings = Callable[[random.Random], dict[str, Any]]


def some(**more: Any) -> Settings:
    """Of every setting one of its values."""
    return lambda rng: {key: rng.choice(values) for key, values in more.items()}


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
