"""The engine on a tiny backbone: right answers under churn, and failures that stay with their row."""

import random
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from adapters.composition import Average, Composition, Fuse, Leaf, Split, Stack, Sum
from adapters.manifest import HeadSpec
from adapters.weights import Package
from serving.errors import DependencyFailed, NotReady
from serving.request import Desired, Reduction, Result, Share, TenantLine
from serving.scheduler.batcher import Budget
from tests.adapters import builders
from tests.serving.engine.bench import HIDDEN, Bench, fusion_package, outputs, package
from tests.serving.samples import stack

WAIT = 60  # seconds until a test gives up
SIZE = 8192  # bytes of `package(seed)` on the device


@pytest.fixture
def make(tmp_path):
    made = []

    def bench(**options):
        made.append(Bench(tmp_path / str(len(made)), **options))
        return made[-1]

    yield bench
    for one in made:
        assert one.engine.check() == ()
        one.engine.close()


@pytest.fixture
def bench(make):
    return make()


def close(ours, theirs):
    return np.allclose(ours, theirs, atol=1e-5)


def test_rows_of_different_methods_stacks_and_heads_share_one_batch(bench):
    lora, prefix, head = (
        bench.publish("lora", package(1, "lora_qv")),
        bench.publish("prefix", package(2, "prefix_flat", "tagging")),
        bench.publish("head", package(3, None, "pooler")),
    )
    language = bench.publish("language", package(4, "invertible", None))
    tickets = [
        bench.ticket(lora, head=lora),
        bench.ticket(prefix, head=prefix, length=5),
        bench.ticket(language, lora, head=head, length=9),
        bench.ticket(reduction=HIDDEN),
        bench.ticket(head=head, length=3),
    ]
    replies = bench.run(*tickets)
    for ticket, output in zip(tickets, outputs(replies), strict=True):
        assert close(output, bench.alone(ticket)), ticket.id
    assert {reply.batch_rows for reply in replies} == {5}
    assert len(bench.groups) == 1


def test_what_prompt_tuning_inserts_is_not_returned(bench):
    prompt = bench.publish("prompt", package(1, "prompt_after_bos", "tagging"))
    ticket = bench.ticket(prompt, head=prompt, length=6)
    states = bench.ticket(prompt, reduction=HIDDEN, length=6)
    some = bench.ticket(
        prompt, head=prompt, reduction=Reduction("logits", (0, 2)), length=6, input_ids=ticket.input_ids
    )
    tags, hidden, picked = outputs(bench.run(ticket, states, some))
    whole = bench.alone(ticket)
    assert whole.shape[0] == 8
    assert close(tags, whole[[0, 3, 4, 5, 6, 7]])
    assert hidden.shape == (6, builders.HIDDEN)
    assert close(picked, tags[[0, 2]])


def test_two_vocabularies_run_in_one_batch(bench):
    words = bench.publish("klingon", builders.embedding_package("bert"))
    other = bench.ticket(embedding=words, reduction=HIDDEN, input_ids=np.array([1, 49, 3], np.int32))
    plain = bench.ticket(reduction=HIDDEN, input_ids=np.array([1, 49, 3], np.int32))
    ours, default = outputs(bench.run(other, plain))
    assert not close(ours, default)
    assert close(default, bench.alone(plain))
    assert bench.replies[other.id].residency == {words.digest: "host"}


def test_many_adapters_in_little_room_are_answered_right(make):
    bench = make(device_bytes=5 * SIZE, budget=Budget(8, 512, 3 * SIZE))
    refs = [bench.publish(f"x{i}", package(i)) for i in range(20)]
    dice = random.Random(5)
    picks = [dice.choice(refs) for _ in range(150)]
    tickets = [bench.ticket(ref, head=ref, length=dice.randint(2, 20)) for ref in picks]
    done = threading.Semaphore(0)

    def sink(group):
        bench.groups.append(group)
        done.release(len(group))

    bench.engine.start()
    for start in range(0, len(tickets), 10):
        bench.engine.submit(tickets[start : start + 10], sink)
    assert all(done.acquire(timeout=WAIT) for _ in tickets)
    for ticket in tickets:
        assert close(outputs([bench.replies[ticket.id]])[0], bench.alone(ticket))
    report = bench.engine.report()
    assert report.ready
    assert report.counters["evictions_device"] > 0
    assert report.used["device"] <= report.budgets["device"]
    assert {bench.replies[ticket.id].residency[ticket.refs[0].digest] for ticket in tickets} >= {"device", "disk"}
    assert 'chorus_cache_evictions_total{tier="device"}' in bench.engine.metrics_text()


def test_damaged_weights_fail_their_row_and_change_no_other_by_a_bit(make):
    good = package(9)
    damaged = Package(good.manifest, {name: torch.full_like(t, float("nan")) for name, t in good.tensors.items()})
    answers = []
    for last in (good, damaged):
        bench = make()
        refs = [bench.publish(f"x{i}", package(i)) for i in range(5)] + [bench.publish("last", last)]
        answers.append(bench.run(*(bench.ticket(ref, head=ref) for ref in refs)))
    clean, poisoned = answers
    for one, other in zip(outputs(clean[:5]), outputs(poisoned[:5]), strict=True):
        assert np.array_equal(one, other)
    assert isinstance(clean[5], Result)
    assert poisoned[5].code == "engine_failed"
    assert "not finite" in poisoned[5].detail


@pytest.mark.parametrize("lasting", [True, False], ids=["lasting", "passing"])
def test_an_engine_ends_with_an_error_that_lasts_and_with_no_other(make, monkeypatch, lasting):
    bench = make()
    forward, real, left = bench.parts.forward, bench.parts.forward.begin, [2]

    def fail(rows):
        if not any(work.ticket.id.startswith("t") for work in rows) and not lasting:
            return real(rows)
        left[0] -= 1
        if lasting or left[0] >= 0:
            raise torch.AcceleratorError("an illegal memory access was encountered")
        return real(rows)

    monkeypatch.setattr(forward, "begin", fail)
    tickets = [bench.ticket(reduction=replace(HIDDEN, pooling="mean")) for _ in range(3)]
    bench.engine.submit(tickets, bench.groups.append)
    bench.engine.desire(Desired(1))
    bench.engine.start()
    answered = threading.Event()
    bench.engine.submit([bench.ticket(reduction=replace(HIDDEN, pooling="mean"))], lambda _: answered.set())
    assert answered.wait(WAIT)
    codes = [getattr(bench.replies[ticket.id], "code", "right") for ticket in tickets]
    if lasting:
        bench.engine._loop._thread.join(WAIT)
        assert codes == ["engine_broken"] * 3
        assert not bench.engine.report().ready and not bench.engine.warm
    else:
        assert set(codes) <= {"right", "engine_failed"} and codes.count("engine_failed") <= 1
        assert bench.engine.report().ready and bench.engine.warm


def test_a_row_that_can_not_run_fails_alone(bench):
    ref = bench.publish("x", package(1))
    words = bench.publish("w", builders.embedding_package("bert"))
    good = [bench.ticket(ref, head=ref) for _ in range(3)]
    bad = {
        "too long": bench.ticket(ref, head=ref, length=41),
        "no tokens": bench.ticket(ref, head=ref, length=0),
        "no head": bench.ticket(ref),
        "ids": bench.ticket(ref, head=ref, input_ids=np.array([1, 90], np.int32)),
        "embedding as adapter": bench.ticket(words, head=ref),
        "adapter as embedding": bench.ticket(ref, head=ref, embedding=ref),
        "positions": bench.ticket(ref, head=ref, reduction=Reduction("logits", (0,))),
    }
    bench.run(*good, *bad.values())
    assert {name: bench.replies[ticket.id].code for name, ticket in bad.items()} == dict.fromkeys(bad, "invalid_row")
    for ticket in good:
        assert close(bench.replies[ticket.id].output, bench.alone(ticket))


@pytest.mark.parametrize("block", [Average, Sum, lambda arms: Split(arms, (1, 2))])
def test_an_arrangement_that_can_not_run_costs_the_other_rows_no_second_pass(make, monkeypatch, block):
    bench = make(budget=Budget(32, 1024, 1 << 30))
    passes, forward = [], bench.backbone.forward
    monkeypatch.setattr(bench.backbone, "forward", lambda plan: (passes.append(len(plan.rows)), forward(plan))[1])
    refs = [bench.publish(f"x{i}", package(i)) for i in range(31)]
    lora = bench.publish("lora", package(40, "lora_qv"))
    good = [bench.ticket(ref, head=ref) for ref in refs]
    bad = bench.ticket(head=refs[0], composition=Composition(block((Leaf(lora), Leaf(refs[0])))))
    replies = bench.run(*good[:9], bad, *good[9:])
    refused = replies.pop(9)
    assert (refused.code, refused.ticket) == ("invalid_arrangement", bad.id)
    assert passes == [31]
    assert {reply.batch_rows for reply in replies} == {31}
    for ticket, output in zip(good[8:10], outputs(replies)[8:10], strict=True):
        assert close(output, bench.alone(ticket))


def test_a_package_that_can_not_be_loaded_refuses_its_rows_only(bench):
    lost, good = bench.publish("lost", package(1)), bench.publish("good", package(2))
    (bench.blobs / lost.digest).unlink()
    done = threading.Semaphore(0)
    bench.engine.start()
    tickets = [bench.ticket(lost, head=lost), bench.ticket(good, head=good)]
    bench.engine.submit(tickets, lambda group: (bench.groups.append(group), done.release(len(group))))
    assert all(done.acquire(timeout=WAIT) for _ in tickets)
    assert bench.replies[tickets[0].id].code == "blob_lost"
    assert isinstance(bench.replies[tickets[1].id], Result)
    with pytest.raises(DependencyFailed):
        bench.engine.preload(lost)


def test_an_adapter_larger_than_the_device_is_refused_at_once(make):
    bench = make(device_bytes=1024)
    ref = bench.publish("x", package(1))
    with pytest.raises(DependencyFailed, match="device"):
        bench.engine.preload(ref)
    bench.engine.submit([bench.ticket(ref, head=ref)], bench.groups.append)
    bench.engine._loop.turn()
    assert bench.replies["t1"].code == "out_of_room"


def test_another_tenants_adapter_is_as_absent(bench):
    ref = bench.publish("x", package(1), tenant="b")
    bench.engine.preload(ref)
    bench.engine.submit([bench.ticket(ref, head=ref, tenant="a"), bench.ticket(reduction=HIDDEN)], bench.groups.append)
    bench.engine._loop.turn()
    assert bench.replies["t1"].code == "not_found"
    assert isinstance(bench.replies["t2"], Result)


def test_a_public_adapter_may_be_stacked_by_everybody(bench):
    shared, own = bench.publish("public/p", package(1), tenant="public"), bench.publish("x", package(2), tenant="b")
    tickets = [bench.ticket(shared, head=shared, tenant="a"), bench.ticket(shared, own, head=own, tenant="b")]
    for ticket, output in zip(tickets, outputs(bench.run(*tickets)), strict=True):
        assert close(output, bench.alone(ticket))
    bench.engine.submit([bench.ticket(own, head=own, tenant="public")], bench.groups.append)
    assert bench.replies["t3"].code == "not_found"


def test_bytes_that_are_not_what_their_digest_says_are_told_apart(bench):
    rotten = bench.publish("rotten", package(1))
    (bench.blobs / rotten.digest).write_bytes(b"x" * 1000)
    with pytest.raises(DependencyFailed) as caught:
        bench.engine.preload(rotten)
    assert caught.value.code == "blob_rotten" and "a:rotten@1" in caught.value.detail
    bench.engine.submit([bench.ticket(rotten, head=rotten)], bench.groups.append)
    bench.engine._loop.turn()
    assert bench.replies["t1"].code == "blob_rotten"


@pytest.mark.parametrize("torn", [b"x" * 1000, None])
def test_a_pin_or_a_preload_of_bad_bytes_accuses_the_package_and_no_other(make, torn):
    bench = make()
    bad, good = bench.publish("bad", package(1)), bench.publish("good", package(2))
    path = bench.blobs / bad.digest
    path.unlink() if torn is None else path.write_bytes(torn)
    bench.engine.desire(Desired(1, (bad, good)))
    assert bench.engine.report().bad == frozenset()
    bench.engine.reconcile()
    report = bench.engine.report()
    assert (set(report.pins_refused), report.bad) == ({str(bad)}, {bad.digest})
    other = bench.publish("other", package(3))
    (bench.blobs / other.digest).write_bytes(b"y")
    with pytest.raises(DependencyFailed):
        bench.engine.preload(other)
    assert bench.engine.report().bad == {bad.digest, other.digest}


def test_shares_reach_the_queue_and_the_cache_and_only_newer_ones_are_listened_to(make):
    bench = make(device_bytes=8 * SIZE)
    bench.engine.desire(Desired(5, (), (("a", Share(3.0, 2 * SIZE, 3 * SIZE)),)))
    bench.engine.desire(Desired(4))
    assert bench.engine.revision == 5
    for i in range(6):
        bench.engine.preload(bench.publish(f"x{i}", package(i)))
    bench.engine.submit([bench.ticket(reduction=HIDDEN)], bench.groups.append)
    report = bench.engine.report()
    assert report.used["device"] == 3 * SIZE
    assert report.lines == (TenantLine("a", 1, 7 * builders.LAYERS, 3.0, 3 * SIZE),)
    assert (report.waiting_tenants, report.floors_kept) == (1, 1.0)
    bench.engine.desire(Desired(6))
    assert bench.engine.report().lines[0].weight == 1.0


def test_floors_that_promise_more_than_the_device_has_are_cut_and_told(make):
    bench = make(device_bytes=8 * SIZE)
    bench.engine.desire(Desired(1, (), (("a", Share(1.0, 6 * SIZE)), ("b", Share(1.0, 2 * SIZE)))))
    assert bench.engine.report().floors_kept == 0.5


def test_pins_are_brought_about_and_refused_with_numbers(make):
    bench = make(device_bytes=8 * SIZE)
    refs = [bench.publish(f"x{i}", package(i)) for i in range(5)]
    assert not bench.engine.warm
    assert bench.engine.room(refs) == (5 * SIZE, 4 * SIZE)
    bench.engine.desire(Desired(1, tuple(refs)))
    assert not bench.engine.warm
    bench.engine.reconcile()
    assert bench.engine.warm
    report = bench.engine.report()
    assert sum(entry.pinned for entry in report.entries) == 4
    assert report.pins_refused == {str(refs[4]): f"{refs[4]}: {SIZE} bytes to pin, 0 of {8 * SIZE} are free for pins"}
    assert "chorus_pins_refused 1.0" in bench.engine.metrics_text()
    bench.engine.desire(Desired(2, (refs[4],)))
    bench.engine.reconcile()
    assert [entry.digest for entry in bench.engine.report().entries if entry.pinned] == [refs[4].digest]
    assert bench.engine.room(refs) == (4 * SIZE, 3 * SIZE)


def test_what_is_larger_than_the_device_still_has_a_size_to_tell(make):
    bench = make(device_bytes=SIZE // 2)
    assert bench.engine.room([bench.publish("x", package(1))]) == (SIZE, SIZE // 4)


def test_a_drained_engine_takes_nothing_new_and_is_not_warm(bench):
    bench.engine.desire(Desired(1))
    assert bench.engine.warm
    bench.engine.submit([bench.ticket(reduction=HIDDEN)], bench.groups.append)
    bench.engine.start()
    assert bench.engine.drain(WAIT)
    bench.engine.submit([bench.ticket(reduction=HIDDEN)], bench.groups.append)
    assert isinstance(bench.replies["t1"], Result)
    assert bench.replies["t2"].code == "not_ready"
    assert not bench.engine.warm and bench.engine.report().draining and bench.engine.report().ready


def test_an_engine_that_can_load_nothing_any_more_is_not_ready(tmp_path, monkeypatch):
    bench, died = Bench(tmp_path / "0"), []
    bench.engine.start()
    assert bench.engine.report().ready
    monkeypatch.setattr(threading, "excepthook", lambda args: died.append(args.exc_type))
    monkeypatch.setattr(bench.engine._cache._loader, "_find", lambda: 1 / 0)
    bench.engine.prefetch((bench.publish("x", package(1)),), "a")
    bench.engine._cache._loader.join()
    report = bench.engine.report()
    assert (died, report.ready, report.faults) == ([ZeroDivisionError], False, ("the loader does not run",))
    bench.engine.close()


def test_an_adapter_that_leaves_before_the_lease_sends_its_row_back(bench):
    ref = bench.publish("x", package(1))
    bench.engine.preload(ref)
    acquire = bench.engine._cache.try_acquire
    bench.engine._cache.try_acquire = lambda refs: None
    bench.engine.submit([bench.ticket(ref, head=ref)], bench.groups.append)
    bench.engine._loop.turn()
    assert bench.groups == []
    bench.engine._cache.try_acquire = acquire
    bench.engine._loop.turn()
    assert isinstance(bench.replies["t1"], Result)


def test_leases_end_with_the_step_even_if_it_fails(bench):
    ref = bench.publish("x", package(1))
    bench.run(bench.ticket(ref, head=ref), bench.ticket(ref))
    assert [entry.leases for entry in bench.engine.report().entries] == [0]
    assert bench.engine.unload(ref) == "unloaded"


def test_an_operator_sees_and_moves_what_is_resident(bench):
    ref = bench.publish("x", package(1))
    assert bench.engine.unload(ref) == "not resident"
    assert bench.engine.pin(ref) == "device"
    (entry,) = bench.engine.report().entries
    assert (entry.tenant, entry.digest, entry.tier, entry.pinned, entry.loads) == ("a", ref.digest, "device", True, 1)
    assert bench.engine.unload(ref) == "unloaded"
    assert bench.engine.preload(ref) == "device"
    assert not bench.engine.report().entries[0].pinned
    bench.engine.unpin(ref)
    bench.engine.retire(ref)
    assert bench.engine.report().used["device"] == 0


def test_a_package_in_use_is_not_unloaded(bench):
    ref = bench.publish("x", package(1))
    bench.engine.preload(ref)
    with bench.engine._cache.try_acquire((ref,)):
        assert bench.engine.unload(ref) == "in use"


def test_a_preload_that_gets_no_room_says_so(make):
    bench = make(device_bytes=SIZE)
    one, two = bench.publish("one", package(1)), bench.publish("two", package(2))
    bench.engine.preload(one)
    with bench.engine._cache.try_acquire((one,)), pytest.raises(NotReady, match="in use"):
        bench.engine.preload(two, timeout_s=0.01)


def test_skipped_layers_are_skipped(bench):
    ref = bench.publish("x", package(1))
    ticket = bench.ticket(ref, head=ref, composition=stack(ref, skip_layers=frozenset({1})))
    (output,) = outputs(bench.run(ticket))
    assert close(output, bench.alone(ticket))
    whole = bench.ticket(ref, head=ref, input_ids=ticket.input_ids)
    assert not close(output, bench.alone(whole))


def test_compositions_of_every_kind_share_a_batch_with_their_fusion_leased(bench):
    one, two = bench.publish("one", package(1)), bench.publish("two", package(2, "scaled_par_bn"))
    fusion = bench.publish("fusion", fusion_package(3))
    leaves = (Leaf(one), Leaf(two))
    blocks = [
        Fuse((Leaf(one), Leaf(one)), fusion),
        Average(leaves, (1.0, 3.0)),
        Split(leaves, (3, 9)),
        Stack((Leaf(one), Average(leaves))),
    ]
    tickets = [bench.ticket(head=one, composition=Composition(block)) for block in blocks]
    assert tickets[0].refs == (one, fusion)
    replies = bench.run(*tickets)
    for ticket, output in zip(tickets, outputs(replies), strict=True):
        assert close(output, bench.alone(ticket)), ticket.composition
    assert {reply.batch_rows for reply in replies} == {4}
    assert set(replies[0].residency) == {one.digest, fusion.digest}


def test_of_a_vocabulary_only_the_best_tokens_of_the_masks_leave(bench):
    head = HeadSpec("masked_lm", 1, None, True, "tokens", (), "vocabulary", vocabulary=90, width=builders.HIDDEN)
    filler = bench.publish("filler", builders.package("bert", [builders.PARTS["prompt_after_bos"]], head, 4))
    wanted = Reduction("logits", (2, 5), top=3)
    ticket = bench.ticket(filler, head=filler, reduction=wanted)
    (reply,) = bench.run(ticket)
    whole = bench.alone(replace(ticket, reduction=Reduction("logits")))[[2 + 2, 5 + 2]]  # the prompt has two tokens
    best = np.argsort(-whole, axis=1)[:, :3]
    assert reply.output.shape == (2, 4)
    assert reply.indices.tolist() == best.tolist()
    assert close(reply.output[:, :3], np.take_along_axis(whole, best, axis=1))
    assert close(reply.output[:, 3], np.log(np.exp(whole).sum(axis=1)))


def test_a_parser_answers_by_words_and_a_reader_by_tokens(bench):
    tree = HeadSpec("dependency_parsing", 1, None, True, "tokens", ("a", "b"), "tree")
    span = HeadSpec("question_answering", 1, None, True, "tokens", ("start", "end"), "span")
    parser = bench.publish("parser", builders.package("bert", [builders.PARTS["seq_bn"]], tree, 5))
    reader = bench.publish("reader", builders.package("bert", [builders.PARTS["prompt"]], span, 6))
    words = bench.ticket(parser, head=parser, reduction=Reduction("logits", best_head=True), word_starts=(1, 3, 4, 6))
    tokens = bench.ticket(reader, head=reader)
    arcs, logits = outputs(bench.run(words, tokens))
    whole = bench.alone(words)
    assert whole.shape == (3, 4, 3)
    assert close(arcs[:, :4], whole[:, :, 0])
    assert close(arcs[:, 4:], whole[np.arange(3), whole[:, :, 0].argmax(axis=1), 1:])
    assert logits.shape == (7, 2)
    assert close(logits, bench.alone(tokens)[3:])


def test_a_sentence_is_one_vector(bench):
    ids = builders.ids(1, 5).astype(np.int32)
    plain, vector = outputs(
        bench.run(
            bench.ticket(reduction=HIDDEN, input_ids=ids),
            bench.ticket(reduction=Reduction("hidden_state", pooling="mean", normalize=True), input_ids=ids),
        )
    )
    assert close(vector, plain.mean(axis=0) / np.linalg.norm(plain.mean(axis=0)))


def test_closing_refuses_what_waits_and_gives_the_folder_back(make):
    bench = make()
    bench.engine.submit([bench.ticket(reduction=HIDDEN)], bench.groups.append)
    bench.engine.close()
    bench.engine.close()
    assert bench.replies["t1"].code == "not_ready"
    assert bench.released == [True]
    assert not bench.engine.report().ready


def test_the_time_of_a_reply_adds_up(bench):
    (reply,) = bench.run(bench.ticket(reduction=HIDDEN))
    assert reply.timing.forward > 0
    assert reply.timing.load == 0
    assert reply.replica == "r1"
