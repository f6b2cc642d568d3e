import numpy as np
import pytest

from loadtests.scenarios.values import Lengths
from loadtests.traffic.texts import POOL, WORDS, Tokens, lengths, make_pool, share

WHOLE = Tokens((1,) * len(WORDS), special=2, longest=508)


def drawn(law, count=50_000):
    return lengths(law, count, np.random.default_rng(0))


def test_the_mean_of_the_log_normal_is_the_mean_of_the_tokens():
    found = drawn(Lengths(mean=32.0, sigma=0.6, highest=512))
    assert found.mean() == pytest.approx(32, rel=0.02)
    assert np.median(found) < 30
    assert drawn(Lengths(mean=24.8, sigma=0.8, shift=-1.0, highest=512)).mean() == pytest.approx(23.9, rel=0.03)


def test_uniform_and_fixed_lengths():
    found = drawn(Lengths(law="uniform", lowest=8, highest=511))
    assert (found.min(), found.max()) == (8, 511)
    assert set(drawn(Lengths(law="fixed", mean=20.0))) == {20}


def test_lengths_stay_between_the_ends():
    found = drawn(Lengths(mean=100.0, sigma=1.5, lowest=10, highest=60))
    assert (found.min(), found.max()) == (10, 60)


def test_texts_are_as_long_in_the_served_tokens_as_the_law_says():
    pool = make_pool(Lengths(law="fixed", mean=32.0), WHOLE, seed=0)
    assert {len(text.split()) for text in pool.texts} == {30}
    each = tuple(1 + number % 3 for number in range(len(WORDS)))
    uneven = make_pool(Lengths(law="fixed", mean=32.0), Tokens(each, 2, 508), seed=0)
    found = {2 + sum(each[WORDS.index(word)] for word in text.split()) for text in uneven.texts}
    assert found == {30, 31, 32}  # never more than the law says


def test_each_word_is_measured_as_it_stands_behind_another_one():
    def longest_first(text):
        return 3 + sum(len(word) for word in text.split())  # the first word has one more than it would have elsewhere

    tokens = Tokens.of(longest_first, 100)
    assert tokens.each == tuple(map(len, WORDS))
    assert (tokens.special, tokens.longest) == (3, 96)
    assert tokens.per_word == sum(map(len, WORDS)) / len(WORDS)


def test_what_the_backbone_does_not_take_is_cut_and_counted():
    pool = make_pool(Lengths(law="uniform", lowest=8, highest=512), Tokens((1,) * len(WORDS), 2, 100), seed=0)
    assert max(len(text.split()) for text in pool.texts) == 98
    assert pool.cut > POOL / 2
    assert make_pool(Lengths(), WHOLE, seed=0).cut == 0


def test_a_text_has_one_word_at_least():
    assert make_pool(Lengths(law="fixed", mean=4.0), Tokens((9,) * len(WORDS), 2, 100), 0).texts[0] in WORDS


def test_a_seed_gives_one_pool():
    assert make_pool(Lengths(), WHOLE, 1) == make_pool(Lengths(), WHOLE, 1) != make_pool(Lengths(), WHOLE, 2)


def test_every_adapter_is_asked_about_short_and_long_texts():
    for seed in range(20):
        mine = share(4, np.random.default_rng(seed))
        assert [number * 4 // POOL for number in mine] == [0, 1, 2, 3]
    assert len({share(4, np.random.default_rng(seed)) for seed in range(20)}) > 10
    assert max(share(64, np.random.default_rng(3))) < POOL
