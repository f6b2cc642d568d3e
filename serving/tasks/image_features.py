"""Feature extraction of images: the last hidden states of the composition, the class token's first, then the patches'."""

from serving.tasks.feature_extraction import FeatureExtraction
from serving.tasks.inputs import Image, Input


class ImageFeatures(FeatureExtraction):
    """`[[float]]` per image, [1 + patches, width]."""

    parameters: frozenset[str] = frozenset()
    reads: tuple[type[Input], ...] = (Image,)
    pairs = False
