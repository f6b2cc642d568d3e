import pytest

from serving.commands.outcomes import outcome

SPAN = {"answer": "Bonn", "score": 0.05512, "start": 17, "end": 21}
FILLED = [{"score": 0.5, "token": 7, "token_str": " cat", "sequence": "a cat"}]
ARC = {"id": 1, "word": "you", "head": 2, "relation": "nsubj", "score": 0.9}
LABELS = [{"label": "POS", "score": 0.98765}, {"label": "NEG", "score": 0.01}]


@pytest.mark.parametrize(
    ("output", "text"),
    [
        (LABELS, "POS 0.9877  NEG 0.0100"),
        ([{"label": "red", "score": 0.5, "index": 1}], "red 0.5000"),
        ([{"entity": "B", "word": "Bonn"}, {"entity": "O", "word": "is"}], "Bonn/B  is/O"),
        ([{"entity_group": "LOC", "word": " Bonn", "score": 0.75}], "Bonn/LOC 0.7500"),
        (SPAN, "Bonn 0.0551 [17:21]"),
        ([SPAN, {"answer": "", "score": 0.25, "start": 0, "end": 0}], "Bonn 0.0551 [17:21]  (no answer) 0.2500 [0:0]"),
        (FILLED * 2, "cat 0.5000  cat 0.5000"),
        ([FILLED, FILLED], "cat 0.5000  |  cat 0.5000"),
        ([ARC, ARC | {"word": "love", "head": 0, "relation": "root"}], "you/nsubj:2  love/root:0"),
        ([ARC | {"arc_logits": [1.0], "relation_logits": [2.0]}], "you/nsubj:2"),
        (
            [{"head": "tone", "output": LABELS[:1]}, {"head": None, "output": [0.5] * 3}],
            "tone: POS 0.9877  |  no head: [3 numbers] (the numbers: --json)",
        ),
        ([{"start_logits": [0.0] * 9, "end_logits": [0.0] * 9}], "[1 windows of 9 tokens] (the numbers: --json)"),
        ([0.25] * 48, "[48 numbers] (the numbers: --json)"),
        ([[0.0] * 3] * 2, "[2 tokens x 3] (the numbers: --json)"),
        ([], "[]"),
        ([{"unheard": 1}], '[{"unheard": 1}]'),
        ({"label": "x"}, '{"label": "x"}'),
    ],
)
def test_every_kind_of_output_has_its_line(output, text):
    assert outcome(output) == text
