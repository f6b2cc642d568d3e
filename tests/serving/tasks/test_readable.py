"""What gateways need in a backbone's folder."""

import json
from dataclasses import replace

import pytest

from serving.errors import BadRequest, Unprocessable
from serving.images.preprocessing import FILE
from serving.tasks import readable
from serving.tasks.readable import check_readable
from tests.adapters import builders

IMAGES = replace(builders.profile("vit").geometry, channels=3)


def test_texts_need_a_tokenizer_and_images_what_they_are_brought_to(tmp_path):
    text = builders.profile("bert").geometry
    with pytest.raises(Unprocessable, match=r"no tokenizer\.json"):
        check_readable(tmp_path, text)
    with pytest.raises(Unprocessable, match=FILE):
        check_readable(tmp_path, IMAGES)
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / FILE).write_text(json.dumps({"size": {"height": 8, "width": 12}}))
    check_readable(tmp_path, text)
    check_readable(tmp_path, IMAGES)


def test_without_pillow_the_extra_is_named(tmp_path, monkeypatch):
    (tmp_path / FILE).write_text(json.dumps({"size": {"height": 8, "width": 12}}))
    monkeypatch.setattr(readable, "find_spec", {"PIL": None}.get)
    with pytest.raises(BadRequest, match=r"chorus\[vision\]"):
        check_readable(tmp_path, IMAGES)


def test_an_encoder_decoder_reads_texts_as_any_other(tmp_path):
    with pytest.raises(Unprocessable, match=r"no tokenizer\.json"):
        check_readable(tmp_path, builders.profile("t5").geometry)
    (tmp_path / "tokenizer.json").write_text("{}")
    check_readable(tmp_path, builders.profile("t5").geometry)
