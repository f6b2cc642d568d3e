"""Image classification: labels and scores of a whole image, as text classification words them."""

from serving.tasks.inputs import Image, Input
from serving.tasks.text_classification import TextClassification


class ImageClassification(TextClassification):
    """`[{"label", "score"}]` per image, best first."""

    name = "image-classification"
    parameters = frozenset({"top_k", "function_to_apply"})
    reads: tuple[type[Input], ...] = (Image,)
    pairs = False
