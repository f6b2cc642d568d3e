from typing import get_args

from serving.tasks.inputs import FORMS, Choices, Input, Question, Words
from serving.tasks.tokenization import Text


def test_characters_count_what_will_be_tokenized():
    assert Text("abc", "de").characters == 5
    assert Question("abc", "de").characters == 5
    assert Choices("abc", ("d", "ef")).characters == 2 * 3 + 3  # the text stands beside each choice
    assert Words(("abc", "de")).characters == 5


def test_every_form_has_a_name_for_refusals():
    assert set(FORMS) == set(get_args(Input))
