"""What a tuner is: settings and tensors per adapted map, and the change of the map that they fold to."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from adapters.architectures.sites import Address
from adapters.errors import Misfit
from adapters.methods.base import BaseMap, Fitting, Shapes, prefixed, wide_at
from adapters.methods.fused import at_parts
from adapters.methods.lora import SITES
from adapters.methods.settings import MAX_COUNT, Settings, choice_in, count_in, flag_in, known_in, number_in
from adapters.weights import Folded, Insertion

Said = Mapping[str, Any]  # the settings of one site, as read
Held = Mapping[str, Tensor]  # the tensors of one site, by name, and those that all sites share
Widths = tuple[int, int]  # (in, out)
Kind = Callable[[Settings, str, Mapping[str, Any], str], Any]  # reads one setting, and notes what is wrong with it

COUNT: Kind = count_in
NUMBER: Kind = number_in
FLAG: Kind = flag_in


def one_of(*allowed: str) -> Kind:
    """A setting with a closed set of names, the first where it is not said."""
    return partial(choice_in, allowed=allowed)


def whole(settings: Settings, where: str, held: Mapping[str, Any], key: str) -> int:
    """An integer that may be zero; zero where it is not said."""
    value = held.get(key, 0)
    if type(value) is not int or not 0 <= value <= MAX_COUNT:
        settings.wrong(f"{where}.{key} must be an integer from 0 on, not {value!r}")
        return 0
    return value


def seed(settings: Settings, where: str, held: Mapping[str, Any], key: str) -> int:
    """The seed of a generator of torch."""
    value = held.get(key)
    if type(value) is not int or not -(1 << 63) <= value < 1 << 63:
        settings.wrong(f"{where}.{key} must be the seed of a generator, not {value!r}")
        return 0
    return value


def _none(said: Said, width: Widths) -> Shapes:
    return {}


def _nothing(said: Said, shared: Held, width: Widths) -> Held:
    return shared


def _as_they_are(sites: Mapping[Address, Said], shared: Held, fitting: Fitting) -> Held:
    return shared


@dataclass(frozen=True)
class Tuner:
    """A method: `settings` of a site by name, its stored tensors, and the block that they become.

    `shapes_at` gives the shapes of a site's tensors (raising `Misfit`), `change` their block from the frozen map.
    `shared_at` gives those of what all sites share, from any site's settings and the largest (in, out) among the
    sites; `share` makes what is not stored of it. `kin_at` gives those of what some sites share, from the settings and
    (in, out) of each. `gather` makes of the settings of all sites, and of the backbone, what is not stored of that.
    """

    name: str
    settings: Mapping[str, Kind]
    shapes_at: Callable[[Said, Widths], Shapes]
    change: Callable[[Said, Held, BaseMap], Folded]
    shared_at: Callable[[Said, Widths], Shapes] = _none
    share: Callable[[Said, Held, Widths], Held] = _nothing
    kin_at: Callable[[Said, Widths], Shapes] = _none
    gather: Callable[[Mapping[Address, Said], Held, Fitting], Held] = _as_they_are
    first_only: bool = False

    def shapes(self, config: Mapping[str, Any], fitting: Fitting) -> Shapes:
        """See `Method.shapes`; what all sites share is under `model/<name>`."""
        found: Shapes = {}
        reasons: list[str] = []
        sites = self._read(config, fitting)
        for address, said in sites.items():
            width = fitting.widths(address.site)
            try:
                found |= prefixed(address, self.shapes_at(said, width))
                for name, shape in prefixed(self._shared, self.kin_at(said, width)).items():
                    if found.setdefault(name, shape) != shape:
                        reasons.append(f"{self.name}: {name} is shared by maps of several widths")
            except Misfit as misfit:
                reasons += [f"{self.name}: sites.{address}: {reason}" for reason in misfit.reasons]
        if reasons:
            raise Misfit(reasons)
        shared = self.shared_at(next(iter(sites.values())), _largest(sites, fitting))
        return {f"{self._shared}/{name}": shape for name, shape in shared.items()} | found

    def initialise(self, config: Mapping[str, Any], fitting: Fitting, generator: torch.Generator) -> dict[str, Tensor]:
        """Raises `Misfit`: these are trained by PEFT."""
        raise Misfit([f"{self.name} is not trained here: train it with PEFT, and read the folder that it saves"])

    def fold(self, config: Mapping[str, Any], tensors: Mapping[str, Tensor], fitting: Fitting) -> dict[Address, Folded]:
        """A block per site, in its cheapest form."""
        sites = self._read(config, fitting)
        some = next(iter(sites.values()))
        shared = self.share(some, wide_at(tensors, self._shared), _largest(sites, fitting))
        shared = self.gather(sites, shared, fitting)
        folded: dict[Address, Folded] = {}
        for address, said in sites.items():
            held = {**shared, **wide_at(tensors, address)}
            kind = next(iter(held.values())).dtype if held else torch.float32
            frozen = BaseMap(fitting.weight(address).to(kind), fitting.bias(address).to(kind))
            folded |= at_parts(address, self.change(said, held, frozen), fitting)
        return folded

    def insertion(self, config: Mapping[str, Any]) -> Insertion | None:
        """None: rows keep their tokens."""
        return None

    @property
    def _shared(self) -> Address:
        """No place in the model: what the sites of one adapter share."""
        return Address(None, self.name)

    def _read(self, config: Mapping[str, Any], fitting: Fitting) -> dict[Address, Said]:
        settings = Settings(self.name, config, ("sites",))
        found: dict[Address, Said] = {}
        for address, held in settings.sites(fitting, SITES).items():
            where = f"sites.{address}"
            known_in(settings, where, held, tuple(self.settings))
            found[address] = {key: kind(settings, where, held, key) for key, kind in self.settings.items()}
        settings.done()
        return found


def divided(what: str, width: int, by: int) -> int:
    """width / by; raises `Misfit` where it is no integer."""
    if by < 1 or width % by:
        raise Misfit([f"{what} {by} does not divide the width {width}"])
    return width // by


def _largest(sites: Mapping[Address, Said], fitting: Fitting) -> Widths:
    widths = [fitting.widths(address.site) for address in sites]
    return max(wide for wide, _ in widths), max(out for _, out in widths)
