import torch

from adapters.batch.past import Past, Recorder
from adapters.batch.segments import layout_of

HEADS, WIDTH = 2, 3


def both(k, v):
    return torch.stack((k.flatten(1), v.flatten(1)))


def test_a_past_stands_behind_the_prefix_and_grows_by_the_rows_own_tokens():
    torch.manual_seed(0)
    k, v = torch.randn(2, 6, HEADS, WIDTH)
    before, prefix, other = (torch.randn(2, count, HEADS * WIDTH) for count in (4, 2, 3))
    recorder = Recorder([None, Past((before,), 4), None], layout_of([2, 1, 3]), [True, True, False])
    seen = recorder.seen(0, k, v, {1: prefix, 2: other}, None)
    assert torch.equal(seen[1], torch.cat([prefix, before], dim=1)) and seen[2] is other and 0 not in seen
    first, second = recorder.left(0), recorder.left(1)
    assert torch.equal(first.layers[0], both(k[:2], v[:2])) and first.tokens == 2
    assert torch.equal(second.layers[0], torch.cat([before, both(k[2:3], v[2:3])], dim=1)) and second.tokens == 5
    assert recorder.left(2) is None


def test_of_a_window_only_what_the_next_token_sees_is_kept():
    torch.manual_seed(0)
    k, v = torch.randn(2, 5, HEADS, WIDTH)
    for window in (1, 3, 5, 9):
        recorder = Recorder([None], layout_of([5]), [True])
        assert recorder.seen(0, k, v, {}, window) == {}
        (kept,) = recorder.left(0).layers
        sight = min(window - 1, 5)
        assert torch.equal(kept, both(k[5 - sight :], v[5 - sight :])) and kept.is_contiguous()
        assert recorder.left(0).tokens == 5


def test_what_is_left_keeps_its_values_when_the_pass_writes_into_its_tensors():
    k, v = torch.ones(2, 2, HEADS, WIDTH)
    recorder = Recorder([None], layout_of([2]), [True])
    recorder.seen(0, k, v, {}, None)
    k.zero_()
    assert bool((recorder.left(0).layers[0] == 1).all())


def test_keys_and_values_of_an_encoders_row_are_kept_once_and_stand_behind_its_prefix():
    torch.manual_seed(0)
    k, v = torch.randn(2, 5, HEADS, WIDTH)
    first = Recorder([None, None], layout_of([1, 1]), [False, True])
    assert first.crossed(0, k, v, {}, layout_of([2, 3])) == {}
    first.seen(0, k[:2], v[:2], {}, None)
    left = first.left(1)
    assert torch.equal(left.crossed[0], both(k[2:], v[2:])) and left.tokens == 1
    prefix = torch.randn(2, 2, HEADS * WIDTH)
    later = Recorder([left], layout_of([1]), [True])
    found = later.crossed(0, k[:0], v[:0], {0: prefix}, layout_of([0]))
    assert torch.equal(found[0], torch.cat([prefix, left.crossed[0]], dim=1))
    later.seen(0, k[:1], v[:1], {}, None)
    assert later.left(0).crossed is left.crossed and later.left(0).tokens == 2
