"""What a seed draws for AdapterHub: the settings of every method."""

import random
from collections.abc import Callable, Mapping
from typing import Any

import adapters

# Where a bottleneck stands in its layer, and what is added to it.
AROUND = (
    "mh_adapter",
    "is_parallel",
    "original_ln_before",
    "original_ln_after",
    "residual_before_ln",
    "adapter_residual_before_ln",
)
ACTIVATIONS = ("relu", "gelu", "swish", "tanh", "leakyrelu", "gelu_new", "silu")


def _bottleneck(rng: random.Random) -> Any:
    parallel = rng.random() < 0.25
    settings = {
        "mh_adapter": rng.random() < 0.5,
        "output_adapter": True,
        "reduction_factor": rng.choice((2, 4, 8, 16, {"default": 4, "1": 2})),
        "non_linearity": rng.choice(ACTIVATIONS),
        "original_ln_before": rng.random() < 0.5,
        "original_ln_after": rng.random() < 0.8,
        "ln_before": rng.random() < 0.3,
        "ln_after": rng.random() < 0.3,
        "residual_before_ln": rng.choice((True, False)),
        "adapter_residual_before_ln": rng.random() < 0.2,
        "scaling": rng.choice((1.0, 4.0, 0.5, "learned", "channel")),
        "use_gating": rng.random() < 0.2,
        "is_parallel": parallel,
        "leave_out": rng.choice(([], [], [0], [1])),
    }
    if parallel:
        settings |= {"original_ln_before": False, "adapter_residual_before_ln": False}
    return adapters.BnConfig(**settings)


def invertible(rng: random.Random) -> Any:
    """A bottleneck with an invertible adapter of a language around the layers."""
    made = rng.choice((adapters.SeqBnInvConfig, adapters.DoubleSeqBnInvConfig))
    return made(reduction_factor=rng.choice((2, 8)), inv_adapter_reduction_factor=rng.choice((2, 4)))


def _compacter(rng: random.Random) -> Any:
    made = rng.choice((adapters.CompacterConfig, adapters.CompacterPlusPlusConfig))
    return made(
        reduction_factor=rng.choice((2, 4)),
        phm_dim=rng.choice((2, 4)),
        phm_rank=rng.choice((1, 2)),
        shared_phm_rule=rng.random() < 0.6,
        factorized_phm_W=rng.random() < 0.6,
        factorized_phm_rule=rng.random() < 0.4,
        shared_W_phm=rng.random() < 0.3,
    )


def _lora_places(rng: random.Random) -> dict[str, Any]:
    places = {
        "selfattn_lora": rng.random() < 0.8,
        "intermediate_lora": rng.random() < 0.4,
        "output_lora": rng.random() < 0.4,
        "attn_matrices": rng.choice((["q", "v"], ["q", "k", "v"], ["v"], ["k", "v"])),
    }
    return places if places["intermediate_lora"] or places["output_lora"] else {**places, "selfattn_lora": True}


def _lora(rng: random.Random) -> Any:
    sizes = {"r": rng.choice((1, 2, 4, 8)), "alpha": rng.choice((1, 4, 8, 16))}
    more = {"use_gating": rng.random() < 0.2, "leave_out": rng.choice(([], [], [1]))}
    return adapters.LoRAConfig(**_lora_places(rng), **sizes, **more)


def _dora(rng: random.Random) -> Any:
    return adapters.DoRAConfig(**_lora_places(rng), r=rng.choice((2, 4)), alpha=rng.choice((2, 8)))


def _ia3(rng: random.Random) -> Any:
    return adapters.IA3Config(use_gating=rng.random() < 0.3)


def _vera(rng: random.Random) -> Any:
    made = rng.choice((adapters.VeraConfig, adapters.DvoRAConfig))
    return made(r=rng.choice((2, 4)), attn_matrices=rng.choice((["q", "v"], ["q"])))


def _prefix(rng: random.Random) -> Any:
    return adapters.PrefixTuningConfig(
        flat=rng.random() < 0.5,
        prefix_length=rng.randint(1, 8),
        bottleneck_size=rng.choice((8, 16)),
        use_gating=rng.random() < 0.25,
        shared_gating=rng.random() < 0.5,
        leave_out=rng.choice(([], [], [0])),
    )


def _prompt(rng: random.Random) -> Any:
    return adapters.PromptTuningConfig(
        prompt_length=rng.randint(1, 6), combine=rng.choice(("prefix", "prefix_after_bos"))
    )


def _reft(rng: random.Random) -> Any:
    made = rng.choice((adapters.LoReftConfig, adapters.NoReftConfig, adapters.DiReftConfig))
    return made(
        layers=rng.choice(("all", [0], [1])),
        prefix_positions=rng.randint(1, 3),
        suffix_positions=rng.randint(0, 3),
        r=rng.choice((1, 2, 4)),
        tied_weights=rng.random() < 0.4,
    )


def _union(rng: random.Random) -> Any:
    def unipelt() -> Any:
        return adapters.UniPELTConfig(
            prefix_tuning=adapters.PrefixTuningConfig(prefix_length=4, bottleneck_size=8, use_gating=True),
            adapter=adapters.SeqBnConfig(reduction_factor=4, use_gating=True),
            lora=adapters.LoRAConfig(r=4, alpha=2, use_gating=True),
        )

    def mam() -> Any:
        return adapters.MAMConfig(prefix_tuning=adapters.PrefixTuningConfig(bottleneck_size=8, prefix_length=5))

    return rng.choice((unipelt, mam, lambda: adapters.ConfigUnion(_bottleneck(rng), _lora(rng))))()


METHODS: Mapping[str, Callable[[random.Random], Any]] = {
    "bottleneck": _bottleneck,
    "invertible": invertible,
    "adapterplus": lambda rng: adapters.AdapterPlusConfig(reduction_factor=rng.choice((4, 8)), stochastic_depth=0.0),
    "compacter": _compacter,
    "lora": _lora,
    "dora": _dora,
    "ia3": _ia3,
    "vera": _vera,
    "prefix": _prefix,
    "prompt": _prompt,
    "reft": _reft,
    "union": _union,
}
ANYWHERE = ("bottleneck", "invertible", "lora", "dora", "ia3", "reft", "adapterplus")  # of interfaces
