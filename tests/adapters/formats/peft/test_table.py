import pytest

from adapters.formats.peft.table import TUNERS, tuner_of
from adapters.methods.table import METHODS


def test_every_tuner_reads_methods_that_exist_and_each_is_written_by_one():
    alike = {"CPT": "PROMPT_TUNING", "P_TUNING": "PROMPT_TUNING", "CARTRIDGE": "PREFIX_TUNING"}  # they save the same
    for name, tuner in TUNERS.items():
        assert set(tuner.methods) <= METHODS.keys()
        assert all(tuner_of(method) is TUNERS[alike.get(name, name)] for method in tuner.methods)


@pytest.mark.parametrize("method", ["bottleneck", "reft"])
def test_methods_that_peft_lacks_have_no_tuner(method):
    assert tuner_of(method) is None
