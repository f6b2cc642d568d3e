import asyncio
import json
import random
from dataclasses import replace
from types import SimpleNamespace

import aiohttp
import pytest

from adapters.formats import native
from loadtests.proofs.callers import TENANT_SCOPES
from loadtests.proofs.estates import LETTERS, RETIRED, SHARED, Ids, absent_ids, build, mark_of
from loadtests.proofs.stage import StageFailed
from serving.api.app import build_app
from serving.registry.records import PUBLIC
from tests.serving.fakes import make_fakes
from tests.serving.server import serve

MARKS = {"birch": "g" * 16, PUBLIC: "q" * 16}


def estate_of(tenant, fakes, forge, tokenizer):
    """What `build` makes of a tenant with the service's own routes, over HTTP."""
    mark = MARKS[tenant]
    secret = fakes.keyring.add(PUBLIC if tenant == PUBLIC else mark, *TENANT_SCOPES).secret

    async def built(url):
        async with aiohttp.ClientSession(url, headers={"Authorization": f"Bearer {secret}"}) as session:
            return await build(session, tenant, mark, forge, tokenizer)

    with serve(build_app(fakes.services)) as url:
        return asyncio.run(built(url))


@pytest.fixture(scope="module")
def town(tmp_path_factory, forge, backbone):
    """The estates of a tenant and of `public`, and the fakes that hold them."""
    fakes = make_fakes(tmp_path_factory.mktemp("town"), profile=forge.profile)
    tokenizer = json.loads((backbone / "tokenizer.json").read_text())
    estates = {tenant: estate_of(tenant, fakes, forge, tokenizer) for tenant in MARKS}
    return SimpleNamespace(fakes=fakes, estates=estates)


@pytest.mark.parametrize("tenant", MARKS)
def test_a_tenant_owns_one_thing_of_every_kind(town, tenant):
    ids, directory = town.estates[tenant].ids, town.fakes.directory
    held = {space: {r.name: r for r in directory.names(ids.tenant, space)} for space in ("adapter", "embedding")}
    record = held["adapter"][ids.name]
    assert [version.ref.version for version in record.versions] == [1, 3]
    assert record.last >= ids.retired == RETIRED
    assert record.aliases == {"prod": 1, ids.alias: 3}
    assert record.pinned == {1}
    assert record.versions[0].ref.digest == ids.digest == native.digest(town.estates[tenant].package)
    assert record.versions[0].tags == {"owner": f"tag-{MARKS[tenant]}"}
    assert ids.embedding in held["embedding"]
    assert ids.target in held["adapter"]
    assert (ids.tenant, ids.once) in town.fakes.control.answers
    assert {key.key_id for key in asyncio.run(town.fakes.keyring.keys(ids.tenant))} > {ids.key_id}
    assert (SHARED in held["adapter"]) == (tenant != PUBLIC)


def test_what_others_may_not_be_told_is_all_that_it_made_up(town):
    estate = town.estates["birch"]
    secret = next(s for s, record in town.fakes.keyring.held.items() if record.key_id == estate.ids.key_id)
    told = {MARKS["birch"], f"word{MARKS['birch']}", estate.ids.key_id, secret, estate.ids.once}
    told |= {native.digest(estate.package).removeprefix("sha256:")}
    assert told < set(estate.words)
    assert len(set(estate.words)) == len(estate.words) == len(told) + 3  # two more digests, and the label of a key


def test_what_is_public_may_be_told_but_for_its_keys(town):
    words = town.estates[PUBLIC].words
    assert MARKS[PUBLIC] not in words
    assert len(words) == 3
    assert all(MARKS[PUBLIC] in word or word.startswith("ck_") for word in words)


def test_the_word_of_a_tenant_is_in_its_own_tokenizer_alone(town, backbone):
    (one, two) = (json.loads(extension.tokenizer) for extension in town.fakes.control.extensions)
    mine = [{word for word in tokenizer["model"]["vocab"] if word.startswith("word")} for tokenizer in (one, two)]
    assert mine == [{f"word{mark}"} for mark in MARKS.values()]
    assert sorted(one["model"]["vocab"].values()) == [*range(len(one["model"]["vocab"]))]


def test_a_tenant_has_its_own_answer_under_the_name_that_all_have(town, forge):
    birch, public = town.estates["birch"], town.estates[PUBLIC]
    assert birch.mine == SHARED
    assert (birch.logits == forge.make(f"{MARKS['birch']}-shared").logits).all()
    assert (public.mine, public.logits) == (public.ids.name, None)


def test_an_estate_that_can_not_be_made_is_no_estate(tmp_path, forge, backbone):
    fakes = make_fakes(tmp_path, profile=forge.profile)
    fakes.control.limits = replace(fakes.control.limits, max_package_bytes=10)
    with pytest.raises(StageFailed, match="413"):
        estate_of("birch", fakes, forge, json.loads((backbone / "tokenizer.json").read_text()))


def test_nobodys_ids_are_letter_for_letter_like_somebodys():
    dice = random.Random(1)
    mark = mark_of("birch", dice)
    like = Ids.of(mark, mark, f"sha256:{'ab' * 32}", "0123456789ab")
    nobody = absent_ids("birch", like, dice)
    assert [len(str(value)) for value in vars(nobody).values()] == [len(str(value)) for value in vars(like).values()]
    assert set(nobody.tenant) <= set(LETTERS["birch"])
    assert nobody.name != like.name
    public = Ids.of(PUBLIC, mark, "", "")
    assert public.name.startswith("public/")
    assert absent_ids(PUBLIC, public, dice).tenant == PUBLIC


def test_ids_that_are_somebodys_are_not_taken_for_nobodys():
    dice, again = random.Random(1), random.Random(1)
    like = absent_ids("birch", Ids.of("g", "g", "", ""), dice)
    with pytest.raises(AssertionError):
        absent_ids("birch", like, again)


def test_no_two_tenants_share_a_letter():
    letters = "".join(LETTERS.values())
    assert len(set(letters)) == len(letters)
