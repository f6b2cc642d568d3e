"""Presets: AdapterHub's names of configurations, to the parts that they mean on a backbone.

Defaults and the names of overrides are AdapterHub's (adapters 1.3.0); what only its training loop reads (dropout,
kinds of initialisation) is not among them. The defaults of its classes stand for what a saved configuration lacks, too.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from adapters.errors import Misfit
from adapters.manifest import PartSpec
from adapters.methods import parts
from adapters.methods.base import Fitting
from adapters.methods.settings import Settings

# The part that AdapterHub's seq_bn (Pfeiffer et al. 2020) is, without its sites.
SEQ_BN: Mapping[str, Any] = {
    "non_linearity": "relu",
    "is_parallel": False,
    "ln_before": False,
    "ln_after": False,
    "residual_before_ln": True,
    "adapter_residual_before_ln": False,
    "original_ln_before": True,
    "original_ln_after": True,
    "scaling": 1.0,
    "use_gating": False,
}


@dataclass(frozen=True)
class Preset:
    """One configuration: its defaults, which are all that can be overridden, and how they become parts."""

    make: Callable[[Settings, parts.Sizes], Iterator[PartSpec]]
    defaults: Mapping[str, Any]

    def parts(self, name: str, fitting: Fitting, overrides: Mapping[str, Any]) -> tuple[PartSpec, ...]:
        """The parts; raises `Misfit` with every reason."""
        settings = Settings(name, {**self.defaults, **overrides}, tuple(self.defaults))
        made = tuple(self.make(settings, fitting.geometry))
        if not made:
            settings.wrong("adapts no module at all")
        settings.done()
        return made


@dataclass(frozen=True)
class Union:
    """Several configurations under one name: its members' presets with overrides, by AdapterHub's argument names."""

    members: Mapping[str, tuple[str, Mapping[str, Any]]]

    def parts(self, name: str, fitting: Fitting, overrides: Mapping[str, Any]) -> tuple[PartSpec, ...]:
        """The members' parts; an override is an object of the member's own overrides. Raises `Misfit`."""
        settings = Settings(name, overrides, tuple(self.members))
        made: list[PartSpec] = []
        for member, (preset, given) in self.members.items():
            own = overrides.get(member, {})
            if not isinstance(own, Mapping):
                settings.wrong(f"{member} must be an object, not {own!r}")
                continue
            try:
                made += PRESETS[preset].parts(f"{name}.{member}", fitting, {**given, **own})
            except Misfit as misfit:
                settings.reasons.extend(misfit.reasons)
        settings.done()
        return tuple(made)


def parts_of(preset: str, fitting: Fitting, **overrides: Any) -> tuple[PartSpec, ...]:
    """The parts that a preset means on a backbone; raises `Misfit` naming what is unknown, and what there is."""
    known = PRESETS.get(preset)
    if known is None:
        raise Misfit([f"{preset!r} is no method to train; there are {', '.join(PRESETS)}"])
    return known.parts(preset, fitting, overrides)


BN_CONFIG: Mapping[str, Any] = {  # AdapterHub's BnConfig, but for what it has to be told
    **{key: value for key, value in SEQ_BN.items() if key != "non_linearity"},
    "original_ln_before": False,
    "cross_adapter": False,
    "leave_out": (),
    "inv_adapter": None,
    "inv_adapter_reduction_factor": 2,
    "phm_layer": False,
    "phm_dim": 4,
    "phm_rank": 1,
    "phm_bias": True,
    "factorized_phm_W": True,
    "factorized_phm_rule": False,
    "shared_W_phm": False,
    "shared_phm_rule": True,
}
_BN: Mapping[str, Any] = {**BN_CONFIG, **SEQ_BN, "mh_adapter": False, "output_adapter": True, "reduction_factor": 16}
_DOUBLE: Mapping[str, Any] = {**_BN, "mh_adapter": True, "original_ln_before": False, "non_linearity": "swish"}
_PARALLEL: Mapping[str, Any] = {
    **_BN,
    "is_parallel": True,
    "original_ln_before": False,
    "scaling": 4.0,
    "reduction_factor": 2,
}
_PLUS: Mapping[str, Any] = {
    **_BN,
    "original_ln_after": False,
    "residual_before_ln": False,
    "scaling": "channel",
    "reduction_factor": 96,
    "non_linearity": "gelu",
}
_COMPACT: Mapping[str, Any] = {"phm_layer": True, "reduction_factor": 32, "non_linearity": "gelu"}
_LINEAR: Mapping[str, Any] = {
    "selfattn_lora": True,
    "intermediate_lora": False,
    "output_lora": False,
    "attn_matrices": ("q", "v"),
    "leave_out": (),
    "r": 8,
    "alpha": 8,
    "use_gating": False,
}
LORA_CONFIG: Mapping[str, Any] = {**_LINEAR, "composition_mode": "add", "use_dora": False}
_IA3: Mapping[str, Any] = {
    **LORA_CONFIG,
    "composition_mode": "scale",
    "intermediate_lora": True,
    "attn_matrices": ("k", "v"),
    "r": 1,
    "alpha": 1,
}
MTL_CONFIG: Mapping[str, Any] = {**_LINEAR, "n_up_projection": 1, "weights_sharpness": 0.05}
PREFIX_CONFIG: Mapping[str, Any] = {
    "flat": False,
    "prefix_length": 30,
    "bottleneck_size": 512,
    "non_linearity": "tanh",
    "use_gating": False,
    "shared_gating": True,
    "encoder_prefix": True,
    "cross_prefix": True,
    "leave_out": (),
}
PROMPT_CONFIG: Mapping[str, Any] = {"prompt_length": 10, "combine": "prefix"}
REFT_CONFIG: Mapping[str, Any] = {
    "layers": "all",
    "prefix_positions": 3,
    "suffix_positions": 0,
    "r": 1,
    "orthogonality": False,
    "tied_weights": False,
    "subtract_projection": True,
    "non_linearity": None,
}
_SINGLE: Mapping[str, Preset] = {
    "seq_bn": Preset(parts.bottleneck, _BN),
    "double_seq_bn": Preset(parts.bottleneck, _DOUBLE),
    "par_bn": Preset(parts.bottleneck, _PARALLEL),
    "scaled_par_bn": Preset(parts.bottleneck, {**_PARALLEL, "scaling": "learned"}),
    "seq_bn_inv": Preset(parts.bottleneck, {**_BN, "inv_adapter": "nice"}),
    "double_seq_bn_inv": Preset(parts.bottleneck, {**_DOUBLE, "inv_adapter": "nice"}),
    "adapterplus": Preset(parts.bottleneck, _PLUS),
    "compacter": Preset(parts.bottleneck, {**_DOUBLE, **_COMPACT}),
    "compacter++": Preset(parts.bottleneck, {**_BN, **_COMPACT}),
    "lora": Preset(parts.lora, LORA_CONFIG),
    "dora": Preset(parts.lora, {**LORA_CONFIG, "use_dora": True}),
    "ia3": Preset(parts.lora, _IA3),
    "vera": Preset(parts.vera, {**_LINEAR, "use_dora": False}),
    "dvora": Preset(parts.vera, {**_LINEAR, "use_dora": True}),
    "mtl_lora": Preset(parts.mtl_lora, MTL_CONFIG),
    "prefix_tuning": Preset(parts.prefix, PREFIX_CONFIG),
    "prefix_tuning_flat": Preset(parts.prefix, {**PREFIX_CONFIG, "flat": True}),
    "prompt_tuning": Preset(parts.prompt, PROMPT_CONFIG),
    "loreft": Preset(parts.reft, {**REFT_CONFIG, "orthogonality": True}),
    "noreft": Preset(parts.reft, REFT_CONFIG),
    "direft": Preset(parts.reft, {**REFT_CONFIG, "subtract_projection": False}),
}
_GATED = {"use_gating": True}
_UNIONS: Mapping[str, Union] = {
    "unipelt": Union(
        {
            "prefix_tuning": ("prefix_tuning", {"prefix_length": 10, **_GATED}),
            "adapter": ("seq_bn", _GATED),
            "lora": ("lora", {"alpha": 2, **_GATED}),
        }
    ),
    "mam": Union({"prefix_tuning": ("prefix_tuning", {"bottleneck_size": 800}), "adapter": ("par_bn", {})}),
}
_ALIASES = {  # AdapterHub's older names, and two of our own
    "pfeiffer": "seq_bn",
    "houlsby": "double_seq_bn",
    "parallel": "par_bn",
    "scaled_parallel": "scaled_par_bn",
    "pfeiffer+inv": "seq_bn_inv",
    "houlsby+inv": "double_seq_bn_inv",
    "bottleneck": "seq_bn",
    "double_bottleneck": "double_seq_bn",
}
PRESETS: Mapping[str, Preset | Union] = {
    **_SINGLE,
    **_UNIONS,
    **{alias: _SINGLE[name] for alias, name in _ALIASES.items()},
}
