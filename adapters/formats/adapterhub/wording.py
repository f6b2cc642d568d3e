"""What a method's file tells the rest of this package: how AdapterHub words it, and where it stores it."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from adapters.formats.adapterhub.host import Host
from adapters.formats.adapterhub.keys import Key
from adapters.manifest import PartSpec
from adapters.methods.settings import Settings


@dataclass(frozen=True)
class Wording:
    """One `architecture` of AdapterHub's configurations.

    `required`: what a configuration has to say; `defaults`: what the other members are where it does not say them;
    `training`: members that only training looks at. `read` makes parts of all of it, with the functions of
    `adapters.methods.parts`, and notes what is wrong in the settings it is given.
    """

    title: str
    required: tuple[str, ...]
    defaults: Mapping[str, Any]
    training: tuple[str, ...]
    read: Callable[[Settings, Host], Iterable[PartSpec]]

    def parts(self, config: Mapping[str, Any], host: Host, reasons: list[str]) -> list[PartSpec]:
        """The parts of a configuration; what is wrong with it is added to `reasons`."""
        missing = [key for key in self.required if key not in config]
        if missing:
            reasons.append(f"the {self.title} configuration lacks {', '.join(missing)}")
            return []
        settings = settings_of(
            self.title, {**self.defaults, **config}, (*self.required, *self.defaults, *self.training)
        )
        made = list(self.read(settings, host))
        reasons += settings.reasons
        return made


@dataclass(frozen=True)
class Layout:
    """One method of native packages: the keys of a part of the adapter of a name, and a part in AdapterHub's words.

    `write` raises `Misfit` for what AdapterHub has no words for.
    """

    keys: Callable[[Mapping[str, Any], str, Host], Iterator[Key]]
    write: Callable[[Mapping[str, Any], Host], dict[str, Any]]


def settings_of(title: str, config: Mapping[str, Any], known: Iterable[str]) -> Settings:
    """A configuration to be read; members that are not known are reasons, unless they are off."""
    off = (key for key, value in config.items() if not value)
    return Settings(title, config, (*known, "architecture", *off))


def integral(value: float) -> int | float:
    """The number as an integer, if it is one: configurations hold both."""
    return int(value) if float(value).is_integer() else value
