"""Tuners that adapt linear maps one by one: which modules a folder adapts, and whether its configuration agrees."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from adapters.formats.peft.host import ROOT
from adapters.formats.peft.modules import targeted
from adapters.formats.peft.tuner import Saved

_ADAPTER_KEY = re.compile(r"(?P<path>.+?)\.(?P<parameter>(?:lora_|ia3_|base_layer|token_adapter|trainable_tokens).*)")


@dataclass(frozen=True, eq=False)
class Adapted:
    """The adapted maps of a folder: path -> address, their tensors under native names, and what was not theirs.

    `fused`: path -> addresses of the maps that are several sites in one.
    """

    paths: Mapping[str, str]
    tensors: Mapping[str, Tensor]
    rest: Mapping[str, Tensor]
    fused: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def sites(self) -> Iterator[tuple[str, str]]:
        """(path, address) of every adapted site."""
        yield from self.paths.items()
        yield from ((path, address) for path, addresses in self.fused.items() for address in addresses)


# The parts of a stored tensor that belong to each of so many sites of one map, by its native name.
Split = Callable[[str, Tensor, int], Sequence[Tensor]]


def adapted(saved: Saved, parameters: Mapping[str, str], reasons: list[str], split: Split | None = None) -> Adapted:
    """The maps that a folder adapts; `parameters`: what stands behind a module's path -> native name.

    Without a `split` no map that is several sites in one is known.
    """
    known, wide = saved.host.modules(), saved.host.fused_modules() if split else {}
    fused: dict[str, tuple[str, ...]] = {}
    tensors: dict[str, Tensor] = {}
    found: dict[str, str] = {}
    rest: dict[str, Tensor] = {}
    for full, tensor in saved.tensors.items():
        if not full.startswith(ROOT):
            reasons.append(f"{full} is no key of PEFT")
            continue
        key = full.removeprefix(ROOT)
        match = _ADAPTER_KEY.fullmatch(key)
        if match is None:
            rest[key] = tensor
            continue
        path, parameter = match["path"], parameters.get(match["parameter"])
        if parameter is None:
            reasons.append(f"{key} belongs to a feature that is not served yet")
        elif split and path in wide:
            fused[path] = tuple(map(str, wide[path]))
            parts = split(parameter, tensor, len(fused[path]))
            if len(parts) != len(fused[path]):
                reasons.append(f"{key} {list(tensor.shape)} is not one block for each of {len(fused[path])} maps")
            tensors |= {f"{address}/{parameter}": part for address, part in zip(fused[path], parts, strict=False)}
        elif path not in known:
            reasons.append(f"the module {path} is not one that is served, or this backbone does not have it")
        else:
            found[path] = str(known[path])
            tensors[f"{known[path]}/{parameter}"] = tensor
    wanted = {path for path in (*known, *wide) if targeted(saved.config, path)}
    # The pooler is optional: the models of some families leave it out.
    own = {*found, *fused}
    missing = sorted(path for path in wanted - own if path in wide or known[path].layer is not None)
    reasons += [f"the checkpoint lacks {path}, which target_modules names" for path in missing]
    reasons += [f"{path} is adapted, but target_modules does not name it" for path in sorted(own - wanted)]
    if not own and not reasons:
        reasons.append("the checkpoint adapts no module at all")
    return Adapted(found, tensors, rest, fused)
