"""A configuration as parts and keys, for a small model of a family."""

import pytest

from adapters.architectures.families import architecture_of
from adapters.errors import Misfit
from adapters.formats.adapterhub import parts
from adapters.formats.adapterhub.host import Host
from tests.adapters.formats.folders import saved


def host(family="bert", hidden=8, embedding=8, layers=2):
    return Host(architecture_of(family), hidden, embedding, layers)


def read(config, family="bert", **changes):
    return parts.read_parts(saved(config, family, **changes), host(family))


def reasons(config, family="bert", **changes):
    with pytest.raises(Misfit) as caught:
        read(config, family, **changes)
    return caught.value.reasons


def keys(config, family="bert", name="a"):
    """Native names (of one key, joined by a space) -> key."""
    return {" ".join(key.natives): key for key in parts.keys(read(config, family), name, host(family))}


def stored(config, family="bert"):
    return {key.stored for key in keys(config, family).values()}
