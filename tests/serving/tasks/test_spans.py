import numpy as np
import pytest

from serving.tasks.spans import best_spans

CONTEXT = np.array([False, False, False, True, True, True, False])  # CLS, a question of two, three tokens, SEP


def logits(start, end):
    found = np.full((7, 2), -50.0, np.float32)
    for column, place in enumerate((start, end)):
        for at, value in place.items():
            found[at, column] = value
    return found


def test_the_best_span_is_the_likeliest_start_with_the_likeliest_end():
    spans, null = best_spans(logits({3: 2.0, 4: 1.0}, {5: 3.0}), CONTEXT, 1, 15)
    assert [(span.first, span.last) for span in spans] == [(3, 5)]
    assert spans[0].score == pytest.approx(np.e / (np.e + 1), rel=1e-4)
    assert null == pytest.approx(0.0, abs=1e-12)


def test_spans_neither_end_before_they_start_nor_exceed_the_longest():
    crossed = logits({5: 9.0, 4: 0.0}, {3: 9.0, 5: 1.0})
    spans, _ = best_spans(crossed, CONTEXT, 9, 15)
    assert all(span.first <= span.last for span in spans)
    assert (spans[0].first, spans[0].last) == (5, 5)
    long = logits({3: 9.0, 5: 0.0}, {5: 9.0, 3: 0.0})
    assert [(s.first, s.last) for s in best_spans(long, CONTEXT, 1, 3)[0]] == [(3, 5)]
    assert [(s.first, s.last) for s in best_spans(long, CONTEXT, 1, 2)[0]] != [(3, 5)]


def test_neither_the_question_nor_special_tokens_answer_or_take_part_in_the_softmax():
    loud = logits({1: 90.0, 2: 90.0, 6: 90.0, 4: 1.0}, {1: 90.0, 6: 90.0, 4: 1.0})
    (span,), _ = best_spans(loud, CONTEXT, 1, 15)
    assert (span.first, span.last) == (4, 4)
    assert span.score == pytest.approx(1.0)


def test_the_first_token_says_that_there_is_no_answer():
    (span,), null = best_spans(logits({0: 1.0, 4: 1.0}, {0: 1.0, 4: 1.0}), CONTEXT, 1, 15)
    assert null == pytest.approx(0.25)
    assert (span.first, span.last, span.score) == (4, 4, pytest.approx(0.25))


def test_as_many_spans_as_asked_for_best_first():
    random = np.random.default_rng(0).normal(size=(7, 2)).astype(np.float32)
    spans, _ = best_spans(random, CONTEXT, 99, 15)
    assert len(spans) == 6
    assert [span.score for span in spans] == sorted((span.score for span in spans), reverse=True)
    assert best_spans(random, CONTEXT, 4, 15)[0] == spans[:4]


def test_extreme_logits_do_not_overflow():
    (span,), null = best_spans(logits({3: 1e30}, {3: 1e30}), CONTEXT, 1, 15)
    assert (span.score, null) == (1.0, 0.0)
