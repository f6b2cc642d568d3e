"""Reading a part's configuration: every wrong member becomes a reason, and all reasons come in one `Misfit`."""

from collections.abc import Mapping
from typing import Any, NoReturn, TypeGuard

import torch
from torch import nn
from torch.nn import functional
from transformers.activations import ACT2FN

from adapters.architectures.sites import Address
from adapters.errors import Misfit
from adapters.methods.base import Fitting

# AdapterHub's own name beside those of transformers.
LEAKY_RELU = "leakyrelu"
MAX_COUNT = 100_000
MAX_NUMBER = torch.finfo(torch.float32).max  # anything larger is infinite in a pass


class Settings:
    """A configuration being read. Every getter notes what is wrong and goes on; `done` raises if anything was."""

    def __init__(self, method: str, config: Mapping[str, Any], known: tuple[str, ...]) -> None:
        self._method = method
        self._config = config
        self.reasons: list[str] = []
        for key in sorted(config, key=str):
            if key not in known:
                self.wrong(f"unknown setting {key!r}")

    def wrong(self, reason: str) -> None:
        """Note a reason, once."""
        text = f"{self._method}: {reason}"
        if text not in self.reasons:
            self.reasons.append(text)

    def done(self) -> None:
        """Raise `Misfit` with every reason noted."""
        if self.reasons:
            raise Misfit(self.reasons)

    def get(self, key: str) -> Any:
        """A member as it is; None where there is none."""
        return self._config.get(key)

    def flag(self, key: str) -> bool:
        """A boolean member."""
        value = self._config.get(key)
        if not isinstance(value, bool):
            self.wrong(f"{key} must be true or false, not {value!r}")
            return False
        return value

    def count(self, key: str, at_most: int = MAX_COUNT, at_least: int = 1) -> int:
        """An integer member; a positive one, if nothing else is said."""
        value = self._config.get(key)
        if type(value) is not int or not at_least <= value <= at_most:
            self.wrong(f"{key} must be an integer from {at_least} to {at_most}, not {value!r}")
            return at_least
        return value

    def number(self, key: str, *, positive: bool = False) -> float:
        """A finite number."""
        value = self._config.get(key)
        if not is_number(value) or (positive and value <= 0):
            self.wrong(f"{key} must be a number{' above zero' if positive else ''}, not {value!r}")
            return 1.0
        return float(value)

    def choice(self, key: str, allowed: tuple[Any, ...]) -> Any:
        """A member with a closed set of values."""
        value = self._config.get(key)
        for option in allowed:
            if value == option and type(value) is type(option):
                return option
        self.wrong(f"{key} must be one of {', '.join(map(repr, allowed))}, not {value!r}")
        return allowed[0]

    def activation(self, key: str) -> str:
        """The name of an activation that `activation` knows."""
        value = self._config.get(key)
        if not isinstance(value, str) or (value != LEAKY_RELU and value not in ACT2FN):
            self.wrong(f"{key} {value!r} is no activation")
            return "relu"
        return value

    def sites(self, fitting: Fitting, allowed: tuple[str, ...]) -> dict[Address, Mapping[str, Any]]:
        """The member `sites`: address -> settings; at least one, each one that the backbone has."""
        raw = self._config.get("sites")
        if not isinstance(raw, Mapping) or not raw:
            self.wrong("matches no module of the backbone: 'sites' is empty")
            return {}
        family, layers = fitting.architecture, fitting.geometry.layers
        present = {a for a in (*family.addresses(layers), *family.wholes(layers)) if a.site in allowed}
        found: dict[Address, Mapping[str, Any]] = {}
        for text, settings in raw.items():
            try:
                address = Address.parse(text)
            except ValueError:
                self.wrong(f"{text!r} is no site")
                continue
            if address not in present:
                self.wrong(f"the backbone has no place for it at {text}")
            elif not isinstance(settings, Mapping):
                self.wrong(f"sites.{text} must be an object")
            else:
                found[address] = settings
        taken = [part for address in found for part in family.parts(address)]
        for part in sorted({str(part) for part in taken if taken.count(part) > 1}):
            self.wrong(f"{part} is adapted twice: by itself, and as a part of a wider map")
        return found

    def layers(self, fitting: Fitting) -> tuple[int, ...]:
        """The member `layers`: numbers of layers that the backbone has, ascending; at least one."""
        value, count = self._config.get("layers"), fitting.geometry.layers
        if not isinstance(value, list | tuple) or not value:
            self.wrong("matches no layer of the backbone: 'layers' is empty")
        elif any(type(layer) is not int for layer in value):
            self.wrong(f"layers must be numbers, not {list(value)!r}")
        elif sorted(set(value)) != list(value) or any(layer not in range(count) for layer in value):
            self.wrong(f"layers must be ascending numbers below {count}, not {list(value)!r}")
        else:
            return tuple(value)
        return ()


def is_number(value: Any) -> TypeGuard[int | float]:
    """Whether a value is a number that stays finite in fp32; integers of any length are compared as they are."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= MAX_NUMBER


def number_in(settings: Settings, where: str, held: Mapping[str, Any], key: str) -> float:
    """A finite number in a site's settings."""
    value = held.get(key)
    if not is_number(value):
        settings.wrong(f"{where}.{key} must be a number, not {value!r}")
        return 1.0
    return float(value)


def flag_in(settings: Settings, where: str, held: Mapping[str, Any], key: str) -> bool:
    """A boolean in a site's settings, false where it is not said."""
    value = held.get(key, False)
    if not isinstance(value, bool):
        settings.wrong(f"{where}.{key} must be true or false, not {value!r}")
        return False
    return value


def choice_in(settings: Settings, where: str, held: Mapping[str, Any], key: str, allowed: tuple[str, ...]) -> str:
    """One of a closed set of names in a site's settings, the first where it is not said."""
    value = held.get(key, allowed[0])
    if value not in allowed:
        settings.wrong(f"{where}.{key} must be one of {', '.join(map(repr, allowed))}, not {value!r}")
        return allowed[0]
    return str(value)


def known_in(settings: Settings, where: str, held: Mapping[str, Any], known: tuple[str, ...]) -> None:
    """Every other member of a site's settings is a reason."""
    for key in sorted(held, key=str):
        if key not in known:
            settings.wrong(f"{where}: unknown setting {key!r}")


def count_in(settings: Settings, where: str, held: Mapping[str, Any], key: str) -> int:
    """A positive integer in a site's settings."""
    value = held.get(key)
    if type(value) is not int or not 1 <= value <= MAX_COUNT:
        settings.wrong(f"{where}.{key} must be a positive integer, not {value!r}")
        return 1
    return value


def activation(name: str) -> nn.Module:
    """The activation of a name that `Settings.activation` accepted."""
    if name == LEAKY_RELU:
        return _LeakyRelu()
    module = ACT2FN[name]
    if not isinstance(module, nn.Module):
        _bad(name)
    return module


class _LeakyRelu(nn.Module):
    """AdapterHub's leaky ReLU has torch's default slope, 0.01; the one of transformers is the same function."""

    def forward(self, x: Any) -> Any:
        return functional.leaky_relu(x)


def _bad(name: str) -> NoReturn:
    raise Misfit([f"{name!r} is no activation"])
