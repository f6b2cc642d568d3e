"""The tables of tasks, of texts and of images, and which of them a head is for."""

from collections.abc import Mapping
from types import MappingProxyType

from adapters.architectures.geometry import Geometry
from adapters.manifest import HeadSpec
from serving.tasks.dependency_parsing import DependencyParsing
from serving.tasks.feature_extraction import FeatureExtraction
from serving.tasks.fill_mask import FillMask
from serving.tasks.image_classification import ImageClassification
from serving.tasks.image_features import ImageFeatures
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


IMAGE_TASKS: Mapping[str, Task] = MappingProxyType(
    {task.name: task for task in (ImageClassification(), ImageFeatures())}
)


def tasks_of(geometry: Geometry) -> Mapping[str, Task]:
    """What a backbone is asked for, by what it reads."""
    return TASKS if geometry.image is None else IMAGE_TASKS


def task_of(head: HeadSpec, tasks: Mapping[str, Task] = TASKS) -> Task | None:
    """The task that a head was made for; None for one that only generates, which is no answer to one pass."""
    return next((task for task in tasks.values() if head.type in task.heads), None)
