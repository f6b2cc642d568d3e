"""What a method's file tells the rest of this package: how AdapterHub words it, and where it stores it."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from adapters.errors import Misfit
from adapters.formats.adapterhub.host import Host
from adapters.formats.adapterhub.keys import Key
from adapters.manifest import PartSpec


@dataclass(frozen=True)
class Wording:
    """One `architecture` of AdapterHub's configurations.

    `optional`: the other members that `read` looks at, and those that only training looks at. `read` raises `Misfit`
    for what can not be served, and any `TypeError` or `ValueError` for what is malformed.
    """

    title: str
    required: tuple[str, ...]
    optional: tuple[str, ...]
    read: Callable[[Mapping[str, Any], Host], Iterable[PartSpec]]

    def parts(self, config: Mapping[str, Any], host: Host, reasons: list[str]) -> list[PartSpec]:
        """The parts of a configuration; what is wrong with it is added to `reasons`."""
        missing = [key for key in self.required if key not in config]
        if missing:
            reasons.append(f"the {self.title} configuration lacks {', '.join(missing)}")
            return []
        known = {"architecture", *self.required, *self.optional}
        unknown = sorted(key for key, value in config.items() if value and key not in known)
        reasons += [f"the {self.title} setting {key!r} is not known" for key in unknown]
        try:
            return list(self.read(config, host))
        except Misfit as misfit:
            reasons += misfit.reasons
        except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError) as error:
            reasons.append(f"the {self.title} configuration is malformed: {error}")
        return []


@dataclass(frozen=True)
class Layout:
    """One method of native packages: the keys of a part of the adapter of a name, and a part in AdapterHub's words.

    `write` raises `Misfit` for what AdapterHub has no words for.
    """

    keys: Callable[[Mapping[str, Any], str, Host], Iterator[Key]]
    write: Callable[[Mapping[str, Any], Host], dict[str, Any]]


def integral(value: float) -> int | float:
    """The number as an integer, if it is one: configurations hold both."""
    return int(value) if float(value).is_integer() else value
