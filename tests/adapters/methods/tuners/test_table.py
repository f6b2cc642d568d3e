from adapters.methods.table import METHODS
from adapters.methods.tuners.table import TUNERS


def test_every_tuner_is_a_method_under_its_own_name():
    assert len({tuner.name for tuner in TUNERS}) == len(TUNERS)
    assert all(METHODS[tuner.name] is tuner for tuner in TUNERS)
