from hypothesis import given
from hypothesis import strategies as st

from serving.tasks.tokenization import Text
from serving.tasks.windows import window_count
from tests.serving.tasks.pieces import TOKENIZER


@given(st.integers(1, 60), st.integers(1, 12), st.integers(0, 11))
def test_as_many_windows_are_made_as_were_counted(tokens, fit, stride):
    count = window_count(tokens, fit, stride)
    if stride >= fit:
        assert count is None
        return
    made = TOKENIZER.windows(Text(" ".join(["love"] * tokens)), fit + 2, stride)
    assert count == len(made)
    assert all(window.tokens <= fit + 2 for window in made)


@given(st.integers(1, 30), st.integers(3, 10), st.integers(0, 2))
def test_windows_of_a_pair_hold_its_first_text_whole(tokens, fit, stride):
    made = TOKENIZER.windows(Text("i hate", " ".join(["love"] * tokens)), fit + 5, stride)
    assert len(made) == window_count(tokens, fit, stride)
    assert {tuple(window.words[:4]) for window in made} == {("[CLS]", "i", "hate", "[SEP]")}
    covered = {window.offsets[i] for window in made for i, part in enumerate(window.parts) if part == 1}
    assert len(covered) == tokens
