"""Levels and frame against transformers' own image processor; settings that would be heeded wrongly are refused."""

import json
from dataclasses import replace

import numpy as np
import pytest
from transformers import ViTImageProcessor
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from serving.errors import Unprocessable
from serving.images.decoding import decoded
from serving.images.preprocessing import FILE, read_preprocessing
from tests.adapters import builders
from tests.serving.images.samples import drawn, saved

TWO_CHANNELS = builders.profile("vit").geometry  # images of 8 x 12
GEOMETRY = replace(TWO_CHANNELS, channels=3)
SIZE = {"height": 8, "width": 12}


def written(folder, **config):
    (folder / FILE).write_text(json.dumps({"image_processor_type": "ViTImageProcessor", "size": SIZE, **config}))
    return read_preprocessing(folder, GEOMETRY)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"resample": 3, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]},
        {"resample": 0, "rescale_factor": 1 / 127.5, "do_normalize": False},
        {"resample": 1, "do_rescale": False, "image_mean": 100.0, "image_std": [50.0, 60.0, 70.0]},
        {"resample": 4, "do_rescale": False, "do_normalize": False},
    ],
)
def test_pictures_become_the_numbers_that_transformers_makes_of_them_bit_for_bit(tmp_path, settings):
    processor = ViTImageProcessorPil(**{"size": SIZE, **settings})
    processor.save_pretrained(tmp_path)
    preprocessing = read_preprocessing(tmp_path, GEOMETRY)
    for width, height in ((12, 8), (31, 47), (5, 3)):
        image = drawn(width, height)
        pixels = np.frombuffer(decoded(saved(image), preprocessing.frame, 10_000), np.uint8).reshape(8, 12, 3)
        theirs = processor(image, return_tensors="np")["pixel_values"][0]
        numbers = preprocessing.numbers(pixels)
        assert numbers.dtype == np.float32
        np.testing.assert_array_equal(numbers, theirs.astype(np.float32))


def test_settings_are_read_as_transformers_saves_and_as_it_saved_them(tmp_path):
    ViTImageProcessor(size=SIZE).save_pretrained(tmp_path)
    now = read_preprocessing(tmp_path, GEOMETRY)
    long_ago = written(tmp_path, image_processor_type=None, feature_extractor_type="ViTFeatureExtractor", resample=2)
    assert now.frame == long_ago.frame
    np.testing.assert_array_equal(now.levels, long_ago.levels)
    assert written(tmp_path, do_resize=False, size=7).frame.resample is None


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"image_processor_type": "CLIPImageProcessor"}, "CLIPImageProcessor is not served"),
        ({"size": {"shortest_edge": 12}}, "give height and width"),
        ({"size": 8}, r"size is \[8, 8\], and the backbone takes \[height, width\] \[8, 12\]"),
        ({"resample": 9}, "resample is 9"),
        ({"do_center_crop": True}, "do_center_crop is not supported"),
        ({"do_pad": True}, "do_pad is not supported"),
        ({"do_flip_channel_order": True}, "do_flip_channel_order is not known"),
        ({"rescale_factor": "much"}, "rescale_factor is 'much'"),
        ({"image_mean": [0.5]}, r"image_mean is \[0.5\]"),
        ({"image_std": [0.5, 0.5, 0]}, "no zero to divide by"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(tmp_path, config, reason):
    with pytest.raises(Unprocessable, match=reason):
        written(tmp_path, **config)


def test_a_folder_without_settings_and_a_backbone_of_other_channels_are_refused(tmp_path):
    with pytest.raises(Unprocessable, match=r"holds no preprocessor_config\.json"):
        read_preprocessing(tmp_path, GEOMETRY)
    (tmp_path / FILE).write_text(json.dumps({"size": SIZE}))
    with pytest.raises(Unprocessable, match="images are RGB, and the backbone takes 2 channels"):
        read_preprocessing(tmp_path, TWO_CHANNELS)
