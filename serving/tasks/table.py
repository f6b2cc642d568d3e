"""The table of tasks, and which of them a head is for."""

from collections.abc import Mapping
from types import MappingProxyType

from adapters.manifest import HeadSpec
from serving.tasks.dependency_parsing import DependencyParsing
from serving.tasks.feature_extraction import FeatureExtraction
from serving.tasks.fill_mask import FillMask
from serving.tasks.multiple_choice import MultipleChoice
from serving.tasks.question_answering import QuestionAnswering
from serving.tasks.sentence_embedding import SentenceEmbedding
from serving.tasks.task import Task
from serving.tasks.text_classification import TextClassification
from serving.tasks.token_classification import TokenClassification

FEATURES: Task = FeatureExtraction()
TASKS: Mapping[str, Task] = MappingProxyType(
    {
        task.name: task
        for task in (
            TextClassification(),
            TokenClassification(),
            QuestionAnswering(),
            MultipleChoice(),
            FillMask(),
            DependencyParsing(),
            SentenceEmbedding(),
            FEATURES,
        )
    }
)


HEADLESS: tuple[Task, ...] = tuple(task for task in TASKS.values() if not task.heads)


def task_of(head: HeadSpec) -> Task | None:
    """The task that a head was made for; None for one that only generates, which is no answer to one pass."""
    return next((task for task in TASKS.values() if head.type in task.heads), None)
