"""Which configurations are refused before any tensor is looked at: a setting that nobody knows may change everything."""

from collections.abc import Mapping
from typing import Any

from adapters.errors import Misfit
from adapters.formats.peft.heads import TASKS
from adapters.formats.peft.table import TUNERS
from adapters.formats.peft.tuner import Tuner
from adapters.methods.biases import BESIDE

# Settings of every tuner that are read, or that say nothing about what a trained adapter computes.
_COMMON = frozenset(
    (
        "peft_type",
        "task_type",
        "peft_version",
        "base_model_name_or_path",
        "revision",
        "inference_mode",
        "auto_mapping",
        "target_modules",
        "exclude_modules",
        "modules_to_save",
        "layers_to_transform",
        "layers_pattern",
        "bias",
    )
)
BIASED = ("all", "lora_only")  # of tuners that count `bias` among their own settings
# What PEFT does not compute again from a folder that it saved, and what is no change of a backbone.
UNSERVED: Mapping[str, str] = {
    "XLORA": "PEFT's X-LoRA is not served: PEFT 0.21 leaves the first map of its gate out of the folder (the name holds"
    " '.0.', as the first LoRA's does) and draws another at every load; serve its LoRAs as they are, or averaged",
    "SHADOW": "PEFT's Shadow is not served yet: it is a second transformer beside the backbone, for each adapter",
}
_OBJECTS = ("rank_pattern", "alpha_pattern", "auto_mapping")


def _biases(tuner: Tuner, kind: str) -> tuple[str, ...]:
    """What `bias` may say of biases that are trained beside a tuner."""
    if "bias" in tuner.settings:
        return BIASED
    return ("all", f"{kind.lower()}_only") if set(tuner.methods) <= set(BESIDE) else ()


def tuner_for(config: Mapping[str, Any]) -> Tuner:
    """The tuner that a configuration names; raises `Misfit` with every reason for which it is refused."""
    kind = config.get("peft_type")
    tuner = TUNERS.get(kind) if isinstance(kind, str) else None
    if tuner is None:
        raise Misfit([UNSERVED.get(str(kind), f"PEFT's method {kind!r} is not served yet")])
    reasons = tuner.refused(config)
    unknown = sorted(key for key, value in config.items() if value and key not in _COMMON | tuner.settings)
    reasons += [f"the setting {key!r} is not known: it may change what the adapter computes" for key in unknown]
    if config.get("bias", "none") not in ("none", *_biases(tuner, str(kind))):
        reasons.append(f"bias={config['bias']!r} changes biases of the backbone, which is not served yet")
    wrong = [key for key in _OBJECTS if config.get(key) is not None and not isinstance(config[key], Mapping)]
    reasons += [f"{key} must be an object, not {config[key]!r}" for key in wrong]
    whole = config.get("modules_to_save")
    if whole is not None and not (isinstance(whole, list) and all(isinstance(name, str) for name in whole)):
        reasons.append(f"modules_to_save must be a list of names, not {whole!r:.80}")
    task = config.get("task_type")
    if not isinstance(task, str | None) or task not in TASKS:
        reasons.append(f"the task {config['task_type']!r} is not served yet")
    if reasons:
        raise Misfit(reasons)
    return tuner
