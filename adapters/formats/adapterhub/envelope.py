"""What stands around every configuration of AdapterHub's: for which model it was made, by which version, under a name."""

from collections.abc import Mapping
from typing import Any

from adapters.architectures.families import ARCHITECTURES, architecture_of
from adapters.architectures.profile import BackboneProfile
from adapters.errors import Misfit
from adapters.manifest import Manifest, Provenance
from adapters.requires import Requires

LIBRARY = "adapterhub"
WRITTEN_VERSION = "adapters.1.3.0"  # whose layout is written


def requires(saved: Mapping[str, Any], profile: BackboneProfile) -> Requires:
    """What it was made for; raises `Misfit` where that is not this backbone, or not one that is served."""
    geometry = profile.geometry
    model_type, hidden = saved.get("model_type"), saved.get("hidden_size")
    reasons = []
    if model_type != geometry.model_type:
        reasons.append(f"it was made for a backbone of type {model_type!r}; this one is {geometry.model_type!r}")
    elif model_type not in ARCHITECTURES:
        reasons.append(f"AdapterHub's adapters for {model_type!r} are not served yet")
    if hidden != geometry.hidden_size:
        reasons.append(f"it was made for the hidden size {hidden!r}; this backbone has {geometry.hidden_size}")
    if reasons:
        raise Misfit(reasons)
    return made_for(profile)


def made_for(profile: BackboneProfile) -> Requires:
    """The backbone itself, as a package says it."""
    return Requires.of(profile.geometry)


def origin(saved: Mapping[str, Any]) -> Provenance:
    """Where a configuration says that it comes from."""
    return Provenance(LIBRARY, str(saved.get("version", "")), str(saved.get("model_name") or ""))


def envelope(manifest: Manifest, name: str) -> dict[str, Any]:
    """The members around a configuration that is written; raises `UnknownArchitecture`."""
    family = architecture_of(manifest.requires.model_type)
    return {
        "hidden_size": manifest.requires.hidden_size,
        # AdapterHub gives a head to a model of just this class.
        "model_class": family.hub_class,
        "model_name": None,
        "model_type": manifest.requires.model_type,
        "name": name,
        "version": WRITTEN_VERSION,
    }
