"""Faults that a proof must catch, planted into the engines of a running service: no line of the product knows of them.

`hook` writes a `sitecustomize.py`, which Python runs at the start of every process that finds it on its path. It waits
until a process imports the device tier, as engines do, and changes it then. Imports nothing but the standard library,
since every process of the service pays for it.
"""

import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

WHERE = "adapters.cache.device"


def hook(folder: Path, fault: str) -> str:
    """Write the hook of a fault into a folder; the answer belongs on `PYTHONPATH`, before everything else."""
    if fault not in FAULTS:
        raise KeyError(fault)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(f"from loadtests.proofs.planted import plant\n\nplant({fault!r})\n")
    return str(folder)


def plant(fault: str) -> None:
    """Have this process suffer from a fault as soon as it imports the device tier."""
    sys.meta_path.insert(0, _Waiting(FAULTS[fault]))


def cached_by_name(module: ModuleType) -> None:
    """The caches know an adapter by its name alone: another version, or another tenant's, is taken for it."""
    from adapters.refs import AdapterRef  # noqa: PLC0415 - only where the fault is wanted

    setattr(AdapterRef, "key", property(lambda ref: ("", ref.name)))  # noqa: B010 - a property of another class


def slot_without_generation(module: ModuleType) -> None:
    """An adapter that comes back is looked for in the slot that it had before, whoever is there now."""
    tier = module.DeviceTier
    first: dict[Any, Any] = {}

    def publish(self: Any, key: Any, resident: Any) -> None:
        self._slots[key].resident = first.setdefault(key, resident)
        self.bytes_loaded += self.lru.nbytes(key)

    tier.publish = publish


FAULTS: Mapping[str, Callable[[ModuleType], None]] = {
    "cached-by-name": cached_by_name,
    "slot-without-generation": slot_without_generation,
}


class _Waiting(MetaPathFinder):
    """Lets the module be found as always, and spoils it once it has run."""

    def __init__(self, spoil: Callable[[ModuleType], None]) -> None:
        self._spoil = spoil

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """None for every module but one."""
        if fullname != WHERE:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        assert spec is not None
        assert spec.loader is not None
        execute = spec.loader.exec_module

        def spoiled(module: ModuleType) -> None:
            execute(module)
            self._spoil(module)

        setattr(spec.loader, "exec_module", spoiled)  # noqa: B010 - of this one loader
        return spec
