"""The closed table of PEFT's tuners: what `peft_type` may say."""

from collections.abc import Mapping

from adapters.formats.peft.adaption_prompt import ADAPTION_PROMPTS
from adapters.formats.peft.ia3 import IA3
from adapters.formats.peft.latest_layouts import LATEST_LAYOUTS
from adapters.formats.peft.layouts import LAYOUTS
from adapters.formats.peft.lora import LORA
from adapters.formats.peft.multitask_prompt import MULTITASK_PROMPT_TUNING
from adapters.formats.peft.newer_layouts import NEWER_LAYOUTS
from adapters.formats.peft.norms import NORMS
from adapters.formats.peft.prompts import CARTRIDGE, CPT, P_TUNING, PREFIX_TUNING, PROMPT_TUNING
from adapters.formats.peft.tokens import TRAINABLE_TOKENS
from adapters.formats.peft.tuner import Tuner

TUNERS: Mapping[str, Tuner] = {
    "LORA": LORA,
    "IA3": IA3,
    "LN_TUNING": NORMS,
    "PROMPT_TUNING": PROMPT_TUNING,
    "MULTITASK_PROMPT_TUNING": MULTITASK_PROMPT_TUNING,
    "CPT": CPT,
    "P_TUNING": P_TUNING,
    "PREFIX_TUNING": PREFIX_TUNING,
    "CARTRIDGE": CARTRIDGE,
    "TRAINABLE_TOKENS": TRAINABLE_TOKENS,
    "ADAPTION_PROMPT": ADAPTION_PROMPTS,
    **LAYOUTS,
    **NEWER_LAYOUTS,
    **LATEST_LAYOUTS,
}


def tuner_of(method: str) -> Tuner | None:
    """The tuner that writes a native method; None where PEFT has none."""
    return next((tuner for tuner in TUNERS.values() if method in tuner.methods), None)
