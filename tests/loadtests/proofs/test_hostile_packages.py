import pytest

from adapters.errors import AdapterError
from adapters.formats import native
from loadtests.proofs.hostile_packages import KINDS, hostile
from loadtests.synthetic import CONFIGS, make_package
from serving.registry.check_worker import examine


@pytest.fixture(scope="module")
def sound(profile):
    return [native.write(make_package(profile, method, "sound", 0)) for method in CONFIGS]


def test_a_seed_gives_the_same_attacks_and_another_one_others(sound):
    assert hostile(sound, 40, 1) == hostile(sound, 40, 1)
    assert hostile(sound, 40, 1) != hostile(sound, 40, 2)


def test_kinds_take_turns_and_hardly_any_attack_comes_twice(sound):
    made = hostile(sound, 10 * len(KINDS), 3)
    assert [kind for kind, _ in made[: len(KINDS)]] == [*KINDS]
    assert len({body for _, body in made}) > 0.9 * len(made)


@pytest.mark.parametrize("kind", KINDS)
def test_none_of_a_kind_is_ever_taken(kind, sound, profile, tmp_path, monkeypatch):
    monkeypatch.setattr("loadtests.proofs.hostile_packages.KINDS", {kind: KINDS[kind]})
    path = tmp_path / "package"
    for _, body in hostile(sound, 25, 4):
        path.write_bytes(body)
        with pytest.raises(AdapterError):
            examine(path, profile)
