import json

import pytest
import tokenizers

from adapters.architectures.profile import read_profile
from loadtests.proofs.backbones import TEXTS, sentence_encoder
from loadtests.proofs.fingerprints import Book, Identity
from loadtests.proofs.stage import StageFailed
from loadtests.proofs.volley import judge
from loadtests.proofs.workload import LONGEST, Asker, sentences
from tests.loadtests.proofs.fake_service import FakeService, asked


@pytest.fixture(scope="module")
def asker(forge):
    return Asker.of(forge, "ada", "ck_ada", 3)


def test_a_sentence_has_as_many_tokens_as_words(backbone):
    tokenizer = tokenizers.Tokenizer.from_file(str(backbone / "tokenizer.json"))
    made = sentences(backbone, 20, 9, 1)
    assert {len(tokenizer.encode(text, add_special_tokens=False).ids) for text in made} == {9}
    assert not any("[UNK]" in tokenizer.encode(text).tokens for text in made)


def test_the_longest_row_is_as_long_as_the_real_model_takes():
    backbone = sentence_encoder()
    tokenizer = tokenizers.Tokenizer.from_file(str(backbone / "tokenizer.json"))
    tokenizer.no_truncation()
    (text,) = sentences(backbone, 1, LONGEST, 0)
    assert len(tokenizer.encode(text).ids) == read_profile(backbone).geometry.max_tokens


def test_a_seed_and_a_length_give_the_same_sentences_again(backbone):
    assert sentences(backbone, 5, 9, 1) == sentences(backbone, 5, 9, 1)
    assert len({sentences(backbone, 5, words, seed) for words in (8, 9) for seed in (1, 2)}) == 4


def test_the_adapters_of_a_tenant_are_its_own(forge, asker):
    assert [*asker.adapters] == ["ada-0", "ada-1", "ada-2"]
    others = Asker.of(forge, "bob", "", 3)
    book = Book()
    for tenant, held in (("ada", asker), ("bob", others)):
        for name, made in held.adapters.items():
            book.enter(Identity(tenant, name, 1), made.logits)  # raises where two answer alike
    assert len(book) == 6


def test_publishing_puts_every_adapter_under_its_name(asker):
    fake = FakeService(TEXTS)
    asked(fake, asker.publish)
    assert {name: held[1] for name, held in fake.names.items()} == {n: m.data for n, m in asker.adapters.items()}


def test_an_adapter_that_is_refused_ends_the_run(asker):
    fake = FakeService(TEXTS)
    fake.refused["publish"] = (503, "registry_unavailable")
    with pytest.raises(StageFailed, match="ada-0: 503 registry_unavailable"):
        asked(fake, asker.publish)


def test_a_question_asks_one_adapter_in_so_many_rows(asker):
    questions = asker.questions(rows=3, timeout_ms=700)
    bodies = [json.loads(question.body) for question in questions]
    assert [body["adapters"] for body in bodies] == [["ada-0"], ["ada-1"], ["ada-2"]]
    assert {len(body["inputs"]) for body in bodies} == {3}
    assert {body["timeout_ms"] for body in bodies} == {700}
    assert {question.key for question in questions} == {"ck_ada"}
    assert len({tuple(body["inputs"]) for body in bodies}) == 3
    assert len(asker.questions(rows=9, timeout_ms=1)[0].logits) == 9  # more rows than texts: these in turn


def test_what_the_adapter_answers_is_right_and_what_another_one_answers_is_wrong(asker):
    fake = FakeService(TEXTS)
    for made in asker.adapters.values():
        fake.learn(made)
    one, two, _ = asker.questions(rows=2, timeout_ms=700)

    async def answers(session):
        await asker.publish(session)
        async with session.post(one.path, data=one.body) as answer:
            return await answer.json()

    told = asked(fake, answers)
    told["target"]["adapters"][0]["digest"] = asker.adapters["ada-0"].digest
    told["timing_ms"] = {"forward": 1.5}
    assert judge(one, 200, b"", json.dumps(told).encode()) == ("", False, 1.5)
    told["target"]["adapters"][0]["digest"] = asker.adapters["ada-1"].digest
    assert judge(two, 200, b"", json.dumps(told).encode())[0].startswith("wrong")
