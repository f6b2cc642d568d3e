from dataclasses import replace

import pytest

from adapters.manifest import Manifest
from adapters.methods.table import METHODS
from serving.api.footprint import inserted, shifted, visits
from tests.adapters import builders
from tests.adapters.builders import PARTS


def manifest(part, family="bert", **changes):
    return Manifest("adapter", builders.requires(family), (part,), **changes)


@pytest.mark.parametrize("name", PARTS)
def test_what_is_put_in_front_of_a_row_is_what_the_library_puts_there(name):
    part = PARTS[name]
    told = METHODS[part.method].insertion(part.config)
    count, shift = (0, 0) if told is None else (told.count, told.shift)
    assert inserted(manifest(part)) == count
    assert shifted(manifest(part)) == (0 if count else shift)


def test_a_past_of_an_encoder_decoder_takes_nothing_from_the_encoders_row():
    assert shifted(manifest(PARTS["past_prefix"], "t5")) == 0
    assert inserted(manifest(PARTS["word_prompt"], "t5")) == PARTS["word_prompt"].config["length"]


def test_a_row_without_an_adapter_is_as_it_is():
    assert (inserted(None), shifted(None), visits(None)) == (0, 0, 1.0)


def test_layers_that_run_again_count_as_often():
    plain = manifest(PARTS["lora_qv"])
    assert visits(plain) == 1.0
    assert visits(replace(plain, route=(0, 1, 1))) == 1.5
