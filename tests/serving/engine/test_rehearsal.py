"""What a new engine computes before it is asked for anything, on tiny backbones of every family."""

from dataclasses import replace

import numpy as np
import pytest

from adapters.errors import InvalidRow
from serving.engine.forward import BackboneForward
from serving.engine.rehearsal import PASSES, ROWS, TOKENS, rows_of, tokens_per_s
from serving.images.frame import Frame
from serving.images.preprocessing import Preprocessing
from serving.request import Reduced
from tests.adapters import builders

ANSWER = Reduced(np.zeros(1, np.float32))


class Script:
    """A `Forward` of which each pass takes so many seconds of its own clock."""

    def __init__(self, *seconds, answer=ANSWER):
        self.seconds = list(seconds)
        self.answer = answer
        self.now = 100.0
        self.seen = []

    def run(self, rows):
        self.now += self.seconds.pop(0)
        self.seen.append(rows)
        return [self.answer for _ in rows]

    def clock(self):
        return self.now


@pytest.mark.parametrize("family", builders.FAMILIES)
def test_every_family_can_rehearse(family):
    backbone = builders.backbone(family)
    geometry = backbone.profile.geometry
    rows = rows_of(geometry)
    seen = None  # of text
    if geometry.image is not None:  # black, in as many channels as this backbone has
        frame = Frame(geometry.image_height, geometry.image_width, None)
        seen = Preprocessing(frame, np.ones((geometry.channels, 256), np.float32))
        assert all(row.ticket.pixels.shape == (frame.height, frame.width, 3) for row in rows)
    shares = BackboneForward(backbone, seen).run(rows)
    assert len(shares) == ROWS
    assert all(share.output.shape == (backbone.profile.geometry.hidden_size,) for share in shares)
    assert all(np.isfinite(share.output).all() for share in shares)


def test_rows_are_no_longer_than_the_backbone_takes_and_hold_no_padding():
    geometry = builders.profile("bert").geometry
    for most in (5, TOKENS + 1):
        ids = rows_of(replace(geometry, max_tokens=most))[0].ticket.input_ids
        assert len(ids) == min(most, TOKENS)
        assert (ids != geometry.pad_token_id).all()
        assert (ids < geometry.vocabulary).all()


def test_the_pass_that_also_makes_what_is_made_once_does_not_count():
    rows = rows_of(builders.profile("bert").geometry)
    script = Script(9.0, 0.5)
    assert tokens_per_s(script, rows, script.clock) == sum(len(row.ticket.input_ids) for row in rows) / 0.5
    assert script.seen == [rows] * PASSES


def test_a_backbone_that_can_not_run_does_not_start():
    script = Script(1.0, 1.0, answer=InvalidRow("no"))
    with pytest.raises(InvalidRow, match="no"):
        tokens_per_s(script, rows_of(builders.profile("bert").geometry), script.clock)
