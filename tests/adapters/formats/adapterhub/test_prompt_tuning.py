from adapters.formats.adapterhub.prompt_tuning import write
from tests.adapters.formats.adapterhub.by_hand import PROMPT
from tests.adapters.formats.adapterhub.reading import host, keys, read, reasons


def test_a_prompt_has_a_length_and_a_place():
    (part,) = read(PROMPT | {"combine": "prefix_after_bos", "random_uniform_scale": 0.5})
    assert (part.method, part.config) == ("prompt_tuning", {"length": 3, "at": "prefix_after_bos"})
    assert read(write(part.config, host())) == (part,)


def test_its_key():
    found = keys(PROMPT)["model/embed_out/prompt"]
    assert found.stored == "prompt_tuning.prompt_tunings.a.prompt_embedding.weight"


def test_a_prompt_without_a_length_is_refused():
    assert "lacks prompt_length, combine" in reasons({"architecture": "prompt_tuning"})[0]
