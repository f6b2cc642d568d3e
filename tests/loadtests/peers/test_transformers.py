import numpy as np

from loadtests.peers import chorus, transformers
from loadtests.peers.contenders import PACKED, PADDED, SORTED


def test_both_ways_agree_with_the_backbone_of_chorus(work):
    theirs, ours = transformers.opened(work), chorus.opened(work).runs[PACKED, None]
    assert theirs.versions.keys() == {"transformers", "torch"}
    expected = ours.rows(ours.go())
    for way in (PADDED, SORTED):
        run = theirs.runs[way, None]
        for found, own in zip(run.rows(run.go()), expected, strict=True):
            np.testing.assert_allclose(found, own, atol=2e-5)
