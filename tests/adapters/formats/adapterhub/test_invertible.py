import pytest

from adapters.errors import Misfit
from adapters.formats.adapterhub.invertible import add
from tests.adapters.formats.adapterhub.reading import host, read, reasons, stored
from tests.adapters.formats.folders import seq_bn

INVERSE = {"kind": "nice", "non_linearity": "relu", "width": 2}


def test_an_invertible_adapter_is_a_part_of_its_own_in_old_and_new_spelling():
    for spelling in (
        {"inv_adapter": "nice", "inv_adapter_reduction_factor": 2},
        {"invertible_adapter": {"block_type": "nice", "reduction_factor": 2}},
    ):
        _, inverse = read(seq_bn(**spelling))
        assert (inverse.method, inverse.config) == ("invertible", INVERSE)


def test_glow_is_refused():
    assert "'glow' can not run in AdapterHub either" in reasons(seq_bn(inv_adapter="glow"))[0]


@pytest.mark.parametrize("reduction", ["x", [2]])
def test_a_malformed_reduction_is_refused(reduction):
    assert reasons(seq_bn(inv_adapter="nice", inv_adapter_reduction_factor=reduction))


def test_keys_of_both_nets():
    found = stored(seq_bn(output_adapter=False, inv_adapter="nice"))
    maps = [f"invertible_adapters.a.{net}.{i}" for net in "FG" for i in (0, 2)]
    assert found == {f"{stem}.{kind}" for stem in maps for kind in ("weight", "bias")}


def test_it_is_written_into_its_bottleneck_or_an_empty_one():
    held = add(INVERSE, seq_bn(), host())
    assert (held["inv_adapter"], held["inv_adapter_reduction_factor"], held["output_adapter"]) == ("nice", 2, True)
    alone = add(INVERSE, None, host())
    assert [part.method for part in read(alone)] == ["invertible"]
    with pytest.raises(Misfit, match="one activation"):
        add(INVERSE, seq_bn(non_linearity="gelu"), host())
