"""What a request shares comes out as it went in, and nothing else comes out."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.composition import Average, Composition, Fuse, Leaf, MultiTask, Parallel, Split, Stack, Sum
from serving.dispatch.errands import Errand, read, written
from serving.request import Reduction
from tests.serving.test_affinity import ref

refs = st.sampled_from([ref("x"), ref("y"), ref("é/ü", "globex")])
leaves = st.builds(Leaf, refs)


def holding(children):
    several = st.lists(children, min_size=1, max_size=3).map(tuple)
    return (
        st.builds(Stack, several)
        | st.builds(Fuse, several, refs)
        | st.builds(Average, several, st.none() | st.just((0.1, 1e-6)))
        | st.builds(Split, several, st.just((3, 4)))
        | st.builds(Parallel, several)
        | st.builds(Sum, several)
        | st.builds(MultiTask, several)
    )


blocks = st.recursive(leaves, holding, max_leaves=6)
reductions = st.builds(
    Reduction,
    output=st.sampled_from(["logits", "hidden_state"]),
    positions=st.none() | st.just(()) | st.just((0, 5)),
    top=st.none() | st.integers(1, 9),
    chosen=st.none() | st.just((7,)),
    best_head=st.booleans(),
    pooling=st.sampled_from([None, "mean"]),
    normalize=st.booleans(),
)
errands = st.builds(
    Errand,
    tenant=st.text(max_size=5),
    composition=st.builds(Composition, blocks, st.frozensets(st.integers(0, 9))),
    head=st.none() | refs,
    embedding=st.none() | refs,
    reduction=reductions,
    inserted=st.integers(0, 9),
    visits=st.sampled_from([1.0, 4 / 3]),
)


@given(errands)
def test_an_errand_arrives_as_it_was_sent(errand):
    arrived = read(written(errand))
    assert arrived == errand
    assert hash(arrived) == hash(errand)
    assert written.__wrapped__(arrived) == written.__wrapped__(errand)  # what is equal may differ yet: 1 and 1.0


def test_the_same_text_is_read_once():
    text = written(Errand("acme", Composition(Stack(())), None, None, Reduction("logits"), 0, 1.0))
    assert read(text) is read(str(text))


@pytest.mark.parametrize(
    "text", ["", "{}", "[1]", "[[99]]", json.dumps([["os.system", "x"]] * 7), json.dumps([[-1]] * 7)]
)
def test_what_is_no_errand_makes_nothing(text):
    with pytest.raises((ValueError, TypeError, KeyError)):
        read(text)
