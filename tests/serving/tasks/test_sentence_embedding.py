from serving.request import Reduction
from serving.tasks.sentence_embedding import SentenceEmbedding
from serving.tasks.task import Options
from serving.tasks.tokenization import Text
from tests.serving.tasks.pieces import answer, prepare

TASK = SentenceEmbedding()


def test_the_engine_is_asked_for_one_vector():
    prepared = prepare(TASK, Text("i love"))
    asked = TASK.reduction(prepared, prepared.pieces[0], Options(pooling="max", normalize=True))
    assert asked == Reduction("hidden_state", pooling="max", normalize=True)
    assert TASK.reduction(prepared, prepared.pieces[0], Options()).pooling == "mean"


def test_one_list_of_numbers_per_input():
    assert answer(TASK, prepare(TASK, Text("i", "you")), [[0.5, -2.0]]) == [0.5, -2.0]
