import pytest

from adapters.kernels.compiled import cpu_flags, folders, levels_of, load_level


@pytest.fixture(scope="module", params=levels_of(cpu_flags()), ids=lambda level: level.name)
def kernels(request):
    """The compiled kernels of every level that this CPU runs."""
    loaded = load_level(request.param, folders())
    assert loaded.kernels is not None, loaded.reason
    return loaded.kernels
