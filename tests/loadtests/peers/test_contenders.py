import pytest

from loadtests.peers.contenders import (
    BF16,
    CHORUS,
    FP32,
    LIBRARIES,
    LORA,
    METHODS,
    MIXED,
    PACKED,
    PADDED,
    PRECISIONS,
    SORTED,
    SWITCH,
    Contender,
    contenders,
    counterpart,
)

ALL = contenders(list(LIBRARIES), PRECISIONS, METHODS)


def test_no_two_contenders_have_the_same_key():
    assert len({one.key for one in ALL}) == len(ALL)


def test_every_library_takes_part_in_each_of_its_ways():
    ways = {(one.library, one.way) for one in ALL}
    assert ways == {
        (CHORUS, MIXED),
        (CHORUS, PACKED),
        ("adapterhub", MIXED),
        ("adapterhub", SWITCH),
        ("peft", MIXED),
        ("peft", SWITCH),
        ("transformers", PADDED),
        ("transformers", SORTED),
        ("onnxruntime", PADDED),
        ("onnxruntime", SORTED),
        ("openvino", PADDED),
        ("openvino", SORTED),
    }


def test_a_library_is_asked_only_for_what_it_has():
    assert {one.method for one in ALL if one.library == "peft"} == {LORA}
    assert {one.precision for one in ALL if one.library == "onnxruntime"} == {FP32}
    assert all((one.method is None) == (one.way in (PACKED, PADDED, SORTED)) for one in ALL)


def test_what_is_chosen_limits_all_but_that_chorus_takes_part():
    found = contenders(["peft"], [BF16], [LORA])
    assert {one.library for one in found} == {CHORUS, "peft"}
    assert {one.precision for one in found} == {BF16}
    assert {one.method for one in found} == {LORA, None}


@pytest.mark.parametrize("peer", [one for one in ALL if one.library != CHORUS], ids=lambda one: one.key)
def test_every_peer_has_a_counterpart_that_does_the_same_work(peer):
    own = counterpart(peer, peer.precision)
    assert own in ALL
    assert (own.library, own.method, own.precision) == (CHORUS, peer.method, peer.precision)


def test_a_key_says_all():
    assert Contender("peft", MIXED, LORA, BF16).key == "peft mixed batch lora bf16"
    assert Contender("openvino", SORTED, None, FP32).key == "openvino length-sorted backbone only fp32"
