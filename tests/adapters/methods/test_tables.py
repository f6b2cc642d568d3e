from dataclasses import replace

import pytest
import torch

from adapters.architectures.sites import Address
from adapters.errors import Misfit
from adapters.methods.base import BaseMap, Fitting
from adapters.methods.tables import TABLE_ROWS
from tests.adapters import builders
from tests.adapters.builders import HIDDEN
from tests.adapters.methods import operands

FITTING = operands.fitting()
SEGMENTS = Address(None, "segments")
CONFIG = {"sites": {str(SEGMENTS): {}}}
IDS = torch.tensor([0, 1, 1, 0, 1, 1, 0, 0, 1, 0, 1, 1])[:, None]


def based():
    table = torch.randn(2, HIDDEN, generator=torch.Generator().manual_seed(9))
    return table, Fitting(FITTING.geometry, FITTING.architecture, lambda _: BaseMap(table.T, torch.zeros(HIDDEN)))


def test_every_token_gets_the_difference_of_its_own_adapters_table():
    table, fitting = based()
    held = [operands.stored(TABLE_ROWS, CONFIG, seed) for seed in (1, 2, 3)]
    operand = operands.operand([TABLE_ROWS.fold(CONFIG, one, fitting)[SEGMENTS] for one in held])
    y = operands.tokens(HIDDEN, 1)
    out = TABLE_ROWS.apply(TABLE_ROWS.change(None, IDS, table.T, operand), y, IDS, table.T, operand)
    segments = [segment for segment, (start, end) in enumerate(operands.BOUNDS) for _ in range(start, end)]
    for place, (entry, segment) in enumerate(zip(IDS[:, 0].tolist(), segments, strict=True)):
        wanted = y[place] - table[entry] + held[segment][f"{SEGMENTS}/rows"][entry]
        assert torch.allclose(out[place], wanted, atol=1e-6)


def test_it_starts_as_the_backbones_own_table():
    table, fitting = based()
    assert torch.equal(TABLE_ROWS.initialise(CONFIG, fitting, torch.Generator())[f"{SEGMENTS}/rows"], table)


def test_positions_of_a_family_that_counts_behind_its_pad_are_more_than_its_tokens():
    for family, more in (("bert", 0), ("roberta", 2)):
        geometry = builders.profile(family).geometry
        config = {"sites": {"model/positions": {}}}
        shapes = TABLE_ROWS.shapes(config, Fitting(geometry, geometry.architecture))
        assert shapes == {"model/positions/rows": (geometry.max_tokens + more, HIDDEN)}
        table = builders.backbone(family).model.embeddings.position_embeddings
        assert table.weight.shape == shapes["model/positions/rows"]


def test_a_backbone_without_the_table_refuses_it():
    geometry = replace(FITTING.geometry, type_vocabulary=0)
    none = Fitting(geometry, geometry.architecture)
    with pytest.raises(Misfit, match="no place for it at model/segments"):
        TABLE_ROWS.shapes(CONFIG, none)
    with pytest.raises(Misfit, match="no place for it at model/words"):
        TABLE_ROWS.shapes({"sites": {"model/words": {}}}, FITTING)
    with pytest.raises(Misfit, match="rank"):
        TABLE_ROWS.shapes({"sites": {str(SEGMENTS): {"rank": 3}}}, FITTING)
