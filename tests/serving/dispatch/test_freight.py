"""What travels is what was sent, and small."""

from dataclasses import fields, replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from adapters.composition import Composition, Fuse, Leaf, Stack
from serving.dispatch import errands
from serving.dispatch.errands import Errand
from serving.dispatch.freight import read_replies, read_tickets, write_replies, write_tickets
from serving.request import Reduction, Refusal, Result, Ticket, Timing
from tests.serving.samples import stack
from tests.serving.test_affinity import ref

HEADS = (None, ref("head"), ref("other"))
COMPOSITIONS = (
    stack(),
    stack(ref("x")),
    Composition(Stack((Fuse((Leaf(ref("x")), Leaf(ref("y"))), ref("z")),)), frozenset({1})),
)
REDUCTIONS = (Reduction("logits"), Reduction("hidden_state", positions=(1, 2), pooling="mean", normalize=True))

ids = st.lists(st.integers(0, 30_000), min_size=1, max_size=5).map(lambda found: np.array(found, np.int32))
tickets = st.builds(
    Ticket,
    id=st.text(max_size=8),
    tenant=st.sampled_from(["acme", "globex"]),
    composition=st.sampled_from(COMPOSITIONS),
    head=st.sampled_from(HEADS),
    embedding=st.sampled_from(HEADS),
    input_ids=ids,
    type_ids=st.none(),
    reduction=st.sampled_from(REDUCTIONS),
    deadline_ms=st.floats(0, 1e6),
    inserted=st.integers(0, 3),
    word_starts=st.none() | st.just((1, 2)),
    visits=st.sampled_from([1.0, 1.5]),
)
pairs = tickets.map(lambda ticket: replace(ticket, type_ids=(np.arange(len(ticket.input_ids)) == 0).astype(np.int32)))
outputs = st.sampled_from([(2,), (3, 2), (0, 2), (1, 2, 3)]).map(
    lambda shape: np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
)
results = st.builds(
    Result,
    ticket=st.text(max_size=8),
    output=outputs,
    timing=st.builds(Timing, *[st.floats(0, 1e4)] * 3),
    residency=st.dictionaries(st.sampled_from("abc"), st.sampled_from(["disk", "host", "device"])),
    replica=st.just("e1"),
    batch_rows=st.integers(1, 64),
    indices=st.none() | st.just(np.array([[1, 2]], np.int32)),
)
refusals = st.builds(Refusal, ticket=st.text(max_size=8), code=st.just("x"), detail=st.just("y"), replica=st.just("e1"))


def same(a, b) -> bool:
    """Equal in type and in every field, arrays by their content, shape and kind."""
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and bool((a == b).all())
    if type(a) is not type(b):
        return False
    if isinstance(a, Ticket | Result):
        return all(same(getattr(a, field.name), getattr(b, field.name)) for field in fields(a))
    return a == b


pictures = st.builds(
    lambda ticket, size: replace(ticket, pixels=np.arange(np.prod(size), dtype=np.uint8).reshape(size)),
    tickets,
    st.sampled_from([(2, 3, 3), (1, 1, 3), (5, 2, 3)]),
)


@given(st.lists(tickets | pairs | pictures, max_size=6))
def test_tickets_arrive_as_they_were_sent(sent):
    arrived = read_tickets(bytearray(write_tickets(sent)))
    assert len(arrived) == len(sent)
    assert all(same(a, b) for a, b in zip(arrived, sent, strict=True))


@given(st.lists(results, max_size=5), st.lists(refusals, max_size=2))
def test_replies_arrive_as_they_were_sent(answered, refused):
    mixed = [*refused[:1], *answered, *refused[1:]]
    arrived = read_replies(bytearray(write_replies(mixed)))
    assert len(arrived) == len(mixed)
    assert all(same(a, b) for a, b in zip(arrived, (*answered, *refused), strict=True))


def test_what_rows_share_travels_once():
    composition, reduction = stack(ref("x")), Reduction("logits")
    row = Ticket("t", "acme", composition, ref("x"), None, np.arange(9, dtype=np.int32), None, reduction, 1.0)
    one, many = (len(write_tickets([replace(row, id=f"t{i}") for i in range(rows)])) for rows in (1, 65))
    assert (many - one) / 64 < 60
    text = errands.written(Errand.of(row)).encode()
    assert write_tickets([row, row]).count(text.replace(b'"', b'\\"')) == 1


def test_two_requests_for_the_same_do_not_share_a_tenant():
    row = Ticket("t", "acme", stack(), None, None, np.arange(3, dtype=np.int32), None, Reduction("hidden_state"), 1.0)
    others = replace(row, tenant="globex"), replace(row, inserted=2), replace(row, visits=2.0)
    arrived = read_tickets(write_tickets([row, *others]))
    assert [ticket.visits for ticket in arrived] == [1.0, 1.0, 1.0, 2.0]
    assert [(ticket.tenant, ticket.inserted) for ticket in arrived] == [
        ("acme", 0),
        ("globex", 0),
        ("acme", 2),
        ("acme", 0),
    ]


def test_arrays_that_arrive_may_be_written_to():
    row = Ticket("t", "acme", stack(), None, None, np.arange(3, dtype=np.int32), None, Reduction("hidden_state"), 1.0)
    (arrived,) = read_tickets(bytearray(write_tickets([row])))
    assert arrived.input_ids.flags.writeable
    assert arrived.input_ids.flags.aligned
