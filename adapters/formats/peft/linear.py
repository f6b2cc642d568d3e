"""Tuners that adapt linear maps one by one: which modules a folder adapts, and whether its configuration agrees."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from adapters.architectures.sites import Address
from adapters.formats.peft.host import ROOT
from adapters.formats.peft.modules import ALL_LINEAR, targeted
from adapters.formats.peft.tuner import Saved

NONE: Mapping[str, Address] = {}
# What stands behind a module's path in keys of features that a tuner may come with.
_FEATURES = r"base_layer|token_adapter|trainable_tokens"


@dataclass(frozen=True, eq=False)
class Adapted:
    """The adapted maps of a folder: path -> address, their tensors under native names, and what was not theirs."""

    paths: Mapping[str, str]
    tensors: Mapping[str, Tensor]
    rest: Mapping[str, Tensor]


def adapted(
    saved: Saved, parameters: Mapping[str, str], stem: str, reasons: list[str], more: Mapping[str, Address] = NONE
) -> Adapted:
    """The maps that a folder adapts.

    `parameters`: what stands behind a module's path -> native name; all of the tuner's own begin with `stem`. `more`:
    modules beside the linear maps that the tuner can adapt, which "all-linear" does not name.
    """
    own = re.compile(rf"(?P<path>.+?)\.(?P<parameter>(?:{stem}|{_FEATURES}).*)")
    known = {**saved.host.modules(), **more}
    tensors: dict[str, Tensor] = {}
    found: dict[str, str] = {}
    rest: dict[str, Tensor] = {}
    for full, tensor in saved.tensors.items():
        if not full.startswith(ROOT):
            reasons.append(f"{full} is no key of PEFT")
            continue
        key = full.removeprefix(ROOT)
        match = own.fullmatch(key)
        if match is None:
            rest[key] = tensor
            continue
        path, parameter = match["path"], parameters.get(match["parameter"])
        if parameter is None and match["parameter"] == "base_layer.bias" and saved.config.get("bias", "none") != "none":
            rest[key] = tensor  # of the map itself, beside the tuner
        elif parameter is None:
            reasons.append(f"{key} belongs to a feature that is not served yet")
        elif path not in known:
            reasons.append(f"the module {path} is not one that is served, or this backbone does not have it")
        else:
            found[path] = str(known[path])
            tensors[f"{known[path]}/{parameter}"] = tensor
    linear = saved.config.get("target_modules") == ALL_LINEAR
    wanted = {path for path in known if targeted(saved.config, path) and not (linear and path in more)}
    # The pooler is optional: the models of some families leave it out.
    missing = sorted(path for path in wanted - set(found) if known[path].layer is not None or path in more)
    reasons += [f"the checkpoint lacks {path}, which target_modules names" for path in missing]
    reasons += [f"{path} is adapted, but target_modules does not name it" for path in sorted(set(found) - wanted)]
    if not found and not reasons:
        reasons.append("the checkpoint adapts no module at all")
    return Adapted(found, tensors, rest)
