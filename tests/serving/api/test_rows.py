import asyncio
import math
import threading
from dataclasses import replace

import pytest
import tokenizers

from serving.api.deadlines import Deadline
from serving.api.rows import RowMaker
from serving.api.schemas import PredictRequest
from serving.api.selection import select
from serving.api.wording import options_of
from serving.config import Limits
from serving.errors import DeadlineExceeded, ServiceError, TooLarge, Unprocessable
from serving.tasks.tokenization import Tokenizer
from tests.serving.fakes import make_fakes
from tests.serving.samples import PROFILE, adapter_manifest, head_of, head_spec, stack

LIMITS = Limits(max_inputs=3, max_rows=6, max_input_characters=40, max_tokens=8)


@pytest.fixture
def fakes(tmp_path):
    return make_fakes(tmp_path, limits=LIMITS)


@pytest.fixture
def make(fakes):
    async def run(body: PredictRequest, clock, services):
        selection = await select(body, "default", fakes.directory, PROFILE.geometry)
        options = options_of(body.parameters, selection.tasks)
        rows = await RowMaker(services).rows(body, selection, options, Deadline(0.0, 1.0, clock))
        return rows, lambda seconds=1.0: rows.tickets("default", selection, seconds)

    def rows(inputs, adapters=(), now=0.0, limits=LIMITS, **request):
        adapters = adapters if isinstance(adapters, dict) else list(adapters)
        body = PredictRequest.model_validate({"inputs": inputs, "adapters": adapters, **request})
        return asyncio.run(run(body, lambda: now, replace(fakes.services, limits=limits)))

    return rows


@pytest.fixture
def spelt(fakes):
    """The tokens of a row, also where it was tokenized without places."""
    vocabulary = tokenizers.Tokenizer.from_buffer(fakes.services.tokenizer_json)
    return lambda row: [vocabulary.id_to_token(number) for number in row.input_ids.tolist()]


def encoded(rows):
    return [piece.encoded for _, _, piece in rows.pieces]


def refused(make, *args, **kwargs) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        make(*args, **kwargs)
    return caught.value


def pointers(error: ServiceError) -> list[str]:
    return [fault.pointer for fault in error.faults]


def test_a_list_of_two_is_two_inputs_and_an_object_a_pair(make, spelt):
    assert [spelt(row) for row in encoded(make(["i", "you"])[0])] == [
        ["[CLS]", "i", "[SEP]"],
        ["[CLS]", "you", "[SEP]"],
    ]
    (pair,) = encoded(make({"text": "i", "text_pair": "you"})[0])
    assert spelt(pair) == ["[CLS]", "i", "[SEP]", "you", "[SEP]"]
    assert make("i")[0].tokens == 3


def test_no_and_too_many_inputs(make):
    assert isinstance(refused(make, []), Unprocessable)
    error = refused(make, ["i"] * 4)
    assert isinstance(error, TooLarge)
    assert (error.code, pointers(error)) == ("too_many_inputs", ["/inputs"])


def test_characters_are_capped_before_tokenizing_even_if_cutting_is_allowed(make, monkeypatch):
    monkeypatch.setattr(Tokenizer, "encode", lambda *_: pytest.fail("tokenized"))
    inputs = ["i", "x" * 41, {"text": "x" * 20, "text_pair": "y" * 21}]
    error = refused(make, inputs, parameters={"truncate": True})
    assert (error.code, pointers(error)) == ("too_long", ["/inputs/1", "/inputs/2"])


def test_too_many_tokens_are_refused_with_numbers(make):
    assert make("i love it i love it")[0].tokens == 8
    error = refused(make, ["i", "i love it i love it i", "i i i i i i i i"])
    assert (error.status, error.code, pointers(error)) == (422, "too_long", ["/inputs/1", "/inputs/2"])
    assert "9 tokens; at most 8 fit" in error.detail
    assert pointers(refused(make, "i love it i love it i")) == ["/inputs"]


def test_truncate_cuts_only_what_is_too_long_and_says_so(make):
    rows, _ = make(["i", "i love it i love it i"], parameters={"truncate": True})
    assert rows.truncated == [False, True]
    assert [row.tokens for row in encoded(rows)] == [3, 8]


@pytest.mark.parametrize("method", ["prompt_tuning", "word_prompt", "multitask_prompt", "past_prefix"])
def test_a_prompt_takes_room(make, fakes, method):
    config = {"length": 3, "at": "prefix"}
    manifest = adapter_manifest(head_spec(), method=method, config=config)
    asyncio.run(fakes.publish("prompt", manifest))
    assert make("i love it", ["prompt"])[0].tokens == 5
    assert "at most 5 fit beside the 3 of the adapter's prompt" in refused(make, "i love it i", ["prompt"]).detail
    assert make("i love it i", ["prompt"], parameters={"truncate": True})[0].tokens == 5
    manifest = adapter_manifest(head_spec(), method="prompt_tuning", config={"length": 7, "at": "prefix"})
    asyncio.run(fakes.publish("wall", manifest))
    assert refused(make, "i", ["wall"], parameters={"truncate": True}).code == "too_long"


def test_a_named_vocabulary_tokenizes(make, fakes):
    asyncio.run(fakes.publish("klingon", adapter_manifest(kind="embedding"), space="embedding"))
    _, tickets = make("i love it", embedding="klingon")
    (ticket,) = tickets()
    assert ticket.embedding is not None
    assert ticket.embedding.name == "klingon"


@pytest.fixture
def threads(monkeypatch):
    """On which threads texts are tokenized."""
    threads = []
    encode = Tokenizer.encode

    def spy(self, texts, **options):
        threads.append(threading.current_thread())
        return encode(self, texts, **options)

    monkeypatch.setattr(Tokenizer, "encode", spy)
    return threads


@pytest.mark.parametrize(("brief", "on_the_loop"), [(7, True), (6, False)])
def test_only_what_is_brief_is_tokenized_on_the_event_loop(make, threads, monkeypatch, brief, on_the_loop):
    monkeypatch.setattr("serving.api.rows.BRIEF", brief)
    make(["i", "i love"])
    assert [thread is threading.main_thread() for thread in threads] == [on_the_loop]


def test_what_may_be_cut_into_windows_is_never_tokenized_there(make, threads, publish):
    publish("reader", "question_answering")
    make([{"question": "i", "context": "you"}], ["reader"])
    assert threads
    assert threading.main_thread() not in threads


def test_taggers_take_no_pairs(make, fakes):
    asyncio.run(fakes.publish("tagger", adapter_manifest(head_spec(("O", "X"), "token"))))
    error = refused(make, ["i", {"text": "i", "text_pair": "you"}], ["tagger"])
    assert (error.code, pointers(error)) == ("no_pairs", ["/inputs/1/text_pair"])


def test_a_ticket_says_all_that_the_engine_needs(make, fakes):
    published = asyncio.run(fakes.publish("task"))
    _, tickets = make(["i love", {"text": "i", "text_pair": "you"}], ["task"])
    first, second = tickets(0.25)
    assert first.id != second.id
    assert first.composition == stack(published.version.ref)
    assert first.refs == (published.version.ref,) == (first.head,)
    assert (first.tenant, first.embedding, first.deadline_ms) == ("default", None, 250.0)
    assert first.input_ids.tolist() == [2, 4, 5, 3]
    assert first.type_ids is None
    assert second.type_ids is not None


def test_no_two_tickets_have_one_id(fakes):
    body = PredictRequest.model_validate({"inputs": ["i", "you"], "adapters": []})

    async def ids(maker: RowMaker) -> list[str]:
        selection = await select(body, "default", fakes.directory, PROFILE.geometry)
        options = options_of(body.parameters, selection.tasks)
        rows = await maker.rows(body, selection, options, Deadline(0.0, 1.0, lambda: 0.0))
        return [ticket.id for ticket in rows.tickets("default", selection, 1.0)]

    gateways = RowMaker(fakes.services), RowMaker(fakes.services)
    made = [ident for maker in gateways for _ in range(2) for ident in asyncio.run(ids(maker))]
    assert len(set(made)) == len(made) == 8


@pytest.fixture
def publish(fakes):
    def put(name, kind, **config):
        head = head_spec() if kind == "classification" else head_of(kind)
        options = {"method": "prompt_tuning", "config": {"length": config["prompt"], "at": "prefix"}} if config else {}
        return asyncio.run(fakes.publish(name, adapter_manifest(head, **options)))

    return put


def test_every_choice_is_a_row_and_rows_are_capped(make, publish, spelt):
    publish("chooser", "multiple_choice")
    inputs = [{"text": "i", "choices": ["love", "hate"]}, {"question": "you", "choices": ["it"]}]
    rows, tickets = make(inputs, ["chooser"])
    assert [i for i, _, _ in rows.pieces] == [0, 0, 1]
    assert [spelt(row)[3] for row in encoded(rows)] == ["love", "hate", "it"]
    assert len({ticket.id for ticket in tickets()}) == 3
    error = refused(make, {"text": "i", "choices": ["it"] * 7}, ["chooser"])
    assert (error.status, error.code, pointers(error)) == (413, "too_many_rows", ["/inputs"])


def test_the_windows_of_all_inputs_share_the_cap(make, publish):
    publish("reader", "question_answering")
    context = {"question": "i", "context": "love it you hate it you love it you"}
    rows, _ = make(context, ["reader"], parameters={"doc_stride": 1})
    assert [row.tokens for row in encoded(rows)] == [8, 8, 7]
    assert rows.truncated == [False]
    error = refused(make, [context] * 3, ["reader"], parameters={"doc_stride": 1})
    assert (error.status, error.code, pointers(error)) == (413, "too_many_rows", ["/inputs/2"])
    shorter = {"question": "i", "context": "love it you hate it you love it"}
    two = make([shorter] * 3, ["reader"], parameters={"doc_stride": 0})[0]
    assert [i for i, _, _ in two.pieces] == [0, 0, 1, 1, 2, 2]


def test_every_branch_makes_its_own_rows(make, publish):
    first, second = publish("plain", "classification"), publish("prompted", "classification", prompt=3)
    rows, tickets = make(["i", "you"], {"parallel": ["plain", "prompted"]})
    assert [i for i, _, _ in rows.pieces] == [0, 0, 1, 1]
    sent = tickets()
    assert [ticket.head for ticket in sent] == [first.version.ref, second.version.ref] * 2
    assert [ticket.inserted for ticket in sent] == [0, 3, 0, 3]
    assert rows.tokens == 12
    error = refused(make, ["i", "i love it it"], {"parallel": ["plain", "prompted"]})
    assert pointers(error) == ["/inputs/1"]
    assert "beside the 3 of the adapter's prompt" in error.detail


def test_a_parser_is_told_where_words_begin(make, publish):
    publish("parser", "dependency_parsing")
    _, tickets = make([{"words": ["you", "unbelievable", "!"]}, "i love it"], ["parser"])
    assert [ticket.word_starts for ticket in tickets()] == [(1, 2, 5, 6), (1, 2, 3, 4)]


def test_a_request_has_a_cap_on_the_tokens_of_all_its_rows(make):
    tight = replace(LIMITS, max_request_tokens=8)
    assert make(["i love", "you it"], limits=tight)[0].tokens == 8
    error = refused(make, ["i love", "you it i"], limits=tight)
    assert isinstance(error, TooLarge)
    assert (error.code, pointers(error)) == ("too_many_tokens", ["/inputs"])
    assert "9 tokens in all rows; at most 8" in error.detail


def test_nothing_is_tokenized_once_the_time_is_over(make, monkeypatch):
    monkeypatch.setattr("serving.api.preparing.Preparation.parts", lambda *_: pytest.fail("tokenized"))
    with pytest.raises(DeadlineExceeded, match="before tokenizing"):
        make("i", now=1.0)


def test_what_a_row_costs_is_its_tokens_and_the_prompts_times_layers(make, publish):
    publish("plain", "classification")
    publish("prompted", "classification", prompt=3)
    assert make(["i", "i love it"], ["plain"])[0].costs(layers=2) == [6.0, 10.0]
    assert make(["i"], ["prompted"])[0].costs(layers=2) == [12.0]


def test_layers_that_run_again_are_in_the_cost_and_on_the_ticket(make, fakes):
    spec = head_spec()
    manifest = adapter_manifest(spec)
    deep = replace(manifest, route=(*range(manifest.requires.layers), 0))
    asyncio.run(fakes.publish("deep", deep))
    rows, tickets = make(["i", "i love it"], ["deep"])
    visits = (manifest.requires.layers + 1) / manifest.requires.layers
    assert [ticket.visits for ticket in tickets()] == [visits] * 2
    assert rows.costs(layers=2) == [2.0 * math.ceil(tokens * visits) for tokens in (3, 5)]
