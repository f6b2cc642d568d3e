import pytest
from torch import nn

from adapters.architectures.sites import SITES, SiteKind
from adapters.methods.fold import fitting_of
from tests.adapters import builders


@pytest.mark.parametrize("family", builders.FAMILIES)
def test_every_linear_path_is_a_linear_map_of_the_width_that_the_record_tells(family):
    modules = dict(builders.backbone(family).model.named_modules())
    fitting = fitting_of(builders.profile(family))
    for address in fitting.architecture.addresses(builders.LAYERS):
        if SITES[address.site] is SiteKind.LINEAR and address.layer is not None:
            module = modules[fitting.architecture.linear_path(address)]
            assert isinstance(module, nn.Linear)
            assert (module.in_features, module.out_features) == fitting.widths(address.site)
