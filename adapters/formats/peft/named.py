"""Folders that hold no tensor of the maps that they adapt: which these are, their configuration alone says.

What was saved from a model with a head does not tell so either, unless the head is there; nor which maps the head had.
"""

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from adapters.architectures.sites import Address
from adapters.formats.peft.host import ROOT, Host
from adapters.formats.peft.linear import Adapted
from adapters.formats.peft.modules import targeted
from adapters.formats.peft.tuner import Saved

POOLER = Address(None, "pooler")
HEADLESS = "FEATURE_EXTRACTION"
# Families whose pooler is below the head of a sequence classifier; no other head has one.
_POOLED = ("bert", "albert")
# Maps of a sequence's or a token's classifier that PEFT adapts where they are targeted, and that are not served.
_IN_HEADS: Mapping[str, tuple[str, ...]] = {
    "deberta-v2": ("pooler.dense",),
    "distilbert": ("pre_classifier",),
    "modernbert": ("head.dense",),
}


def named(saved: Saved, stem: str, reasons: list[str]) -> tuple[Adapted, Host]:
    """The maps that a configuration names, in the model that it speaks of; a tensor of one of them is refused."""
    kept: dict[str, Tensor] = {}
    for full, tensor in saved.tensors.items():
        key = full.removeprefix(ROOT)
        if key == full or f".{stem}" in key:
            reasons.append(f"{key} belongs to a feature that is not served yet")
        else:
            kept[key] = tensor
    task = saved.config.get("task_type")
    prefixed = saved.host.prefixed or bool(kept) if task is None else task != HEADLESS
    host = replace(saved.host, prefixed=prefixed)
    family = host.family.model_type
    found = {path: str(address) for path, address in host.modules().items() if targeted(saved.config, path)}
    if prefixed and not (task == "SEQ_CLS" and family in _POOLED):
        found = {path: address for path, address in found.items() if address != str(POOLER)}
    beyond = [path for path in _IN_HEADS.get(family, ()) if prefixed and targeted(saved.config, path)]
    reasons += [f"{path} of the head is adapted, which is not served" for path in beyond]
    if not found:
        reasons.append("the configuration adapts no module that this backbone has")
    return Adapted(found, {}, kept), host
