"""A watched place as a native package, read by the operator's process: any format but pickles."""

import logging
from pathlib import Path

from adapters.architectures.profile import BackboneProfile
from adapters.errors import Misfit
from adapters.formats import native, recognise
from adapters.formats.adapterhub import setup
from adapters.formats.check import check
from serving.errors import TooLarge
from serving.logs import log
from serving.registry.records import Space
from serving.watching.places import size


def read(path: Path, profile: BackboneProfile, max_bytes: int) -> tuple[Space, bytes]:
    """Where it belongs, and the bytes to publish: a native file's own, so that its digest stays.

    Raises `TooLarge`, `UnsafeFile` (pickles), `InvalidPackage`, or `Misfit` with every reason.
    """
    held = size(path)
    if held > max_bytes:
        raise TooLarge(f"it holds {held} bytes; a package may have at most {max_bytes}", code="package_too_large")
    if path.is_file():
        kind = native.preparse(path).manifest.kind
        return _space(kind), path.read_bytes()
    if setup.is_setup(path):
        raise Misfit(["a saved setup is several packages and a target: publish it with `chorus push`"])
    package = recognise.read(path, profile)
    check(package, profile)
    for warning in recognise.warnings(package):
        log("watch", "a warning of the reader", level=logging.WARNING, place=path.name, why=warning)
    return _space(package.manifest.kind), native.write(package)


def _space(kind: str) -> Space:
    return "embedding" if kind == "embedding" else "adapter"
