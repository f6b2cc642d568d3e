"""Packages in the hands of one user: the unfolded tensors as parameters, and what a pass needs of them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from adapters.backbone import Backbone
from adapters.embeddings import MATRIX, TOKENIZER, TokenEmbedding
from adapters.methods.fold import fold
from adapters.weights import Adapter, Package

# Tensors that training leaves alone: the fixed rotation under an orthogonal ReFT, VeRA's shared random matrices.
_CONSTANT: Mapping[str, str] = {".base": "reft", "model/vera/lora_A": "vera", "model/vera/lora_B": "vera"}
_ORTHOGONAL = ".original"  # ReFT: only what lies above the diagonal is free; the rest has to stay to the bit


@dataclass(frozen=True, eq=False)
class _Folded:
    adapter: Adapter
    made_of: tuple[tuple[int, int], ...]


class Held(nn.Module):
    """One package; its tensors are parameters under their own names, with dots written as `%2E`.

    `package()` gives back what it was made of, or what training has made of it.
    """

    def __init__(self, package: Package, dtype: torch.dtype) -> None:
        super().__init__()
        self.manifest = package.manifest
        self._bytes = {n: t for n, t in package.tensors.items() if not t.is_floating_point()}
        self._names = tuple(n for n in package.tensors if n not in self._bytes)
        self._folded: _Folded | None = None
        methods = {part.method for part in package.manifest.parts}
        with torch.inference_mode(mode=False):  # a tensor of inference mode could never train
            for name in self._names:
                tensor = package.tensors[name].detach().to(dtype, copy=True).contiguous()
                if any(name.endswith(ending) and method in methods for ending, method in _CONSTANT.items()):
                    self.register_buffer(quote(name), tensor)
                    continue
                self.register_parameter(quote(name), nn.Parameter(tensor))
                if "reft" in methods and name.endswith(_ORTHOGONAL):
                    self.register_buffer(quote(f"{name}.fixed"), tensor.tril())

    def freeze(self, *, frozen: bool) -> None:
        """Whether gradients are left out; one that is left over would still move a frozen parameter."""
        self.requires_grad_(not frozen)
        self.zero_grad(set_to_none=True)

    @property
    def trains(self) -> bool:
        """Whether any of its parameters has gradients."""
        return any(parameter.requires_grad for parameter in self.parameters())

    def tensors(self) -> dict[str, Tensor]:
        """The unfolded tensors as they are now, differentiable."""
        return {name: self._tensor(name) for name in self._names} | self._bytes

    def package(self) -> Package:
        """The package as it is now, in tensors of its own."""
        return Package(self.manifest, {name: t.detach().cpu().clone() for name, t in self.tensors().items()})

    def folded(self, backbone: Backbone) -> Adapter:
        """What a pass needs; kept while it is frozen and its tensors stay the same.

        What trains is folded anew each time: fused optimizers change tensors behind their version's back.
        """
        if self.trains:
            self._folded = None
            return self._fold(backbone)
        made_of = tuple((tensor.data_ptr(), tensor._version) for tensor in self.state_dict(keep_vars=True).values())  # noqa: SLF001 - torch has no public door to it
        if self._folded is None or self._folded.made_of != made_of:
            self._folded = _Folded(self._fold(backbone), made_of)
        return self._folded.adapter

    def vocabulary(self) -> TokenEmbedding:
        """The vocabulary in a package of kind `embedding`, its matrix differentiable."""
        text = self._bytes.get(TOKENIZER)
        return TokenEmbedding(
            self.manifest, self._tensor(MATRIX).cpu(), None if text is None else text.numpy().tobytes()
        )

    def _fold(self, backbone: Backbone) -> Adapter:
        tensors = {name: tensor.cpu() for name, tensor in self.tensors().items()}  # where the frozen weights are given
        return fold(Package(self.manifest, tensors), backbone.profile, backbone.dtype, backbone.base_maps)

    def _tensor(self, name: str) -> Tensor:
        tensor: Tensor = getattr(self, quote(name))
        fixed: Tensor | None = getattr(self, quote(f"{name}.fixed"), None)
        return tensor if fixed is None else tensor.triu(1) + fixed


class Shelf(nn.Module):
    """The packages of one kind by name; any name will do, which `ModuleDict` can not say."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self._kind = kind
        self._names: dict[str, str] = {}

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, name: str) -> Held:
        if name not in self._names:
            there = ", ".join(self._names) or "none"
            raise ValueError(f"there is no {self._kind} {name!r}; there are: {there}")
        held = self._modules[self._names[name]]
        assert isinstance(held, Held)
        return held

    def __delitem__(self, name: str) -> None:
        self[name]
        del self._modules[self._names.pop(name)]

    def put(self, name: str, held: Held, *, replace: bool = False) -> None:
        """Keep a package under a name; raises `ValueError` where it is taken, unless it is to be replaced."""
        if name in self._names and not replace:
            raise ValueError(f"there is {self._kind} {name!r} already: delete it first, or give overwrite_ok=True")
        self._names[name] = quote(name)
        self._modules[quote(name)] = held


def quote(name: str) -> str:
    """A name without dots, which separate modules in a state's keys; different names stay different."""
    return name.replace("%", "%25").replace(".", "%2E")
