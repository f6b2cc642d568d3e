import pytest

from adapters.methods.fold import expected
from loadtests.proofs import freshness
from loadtests.proofs.backbones import sentence_encoder
from loadtests.proofs.fingerprints import METHODS, Forge
from loadtests.proofs.freshness import MEGABYTES, Found, Size, evidence, large, over_quiet, together
from loadtests.proofs.given import Given
from loadtests.proofs.steady import Sample
from loadtests.synthetic import make_package
from tests.loadtests.proofs.fake_service import FakeService, asked

SIZE = Size(3, 3, 0.1)
SLOWED = "hits while loads run over quiet, p99"


def window(*seconds, fault=""):
    return [Sample(float(n), value, fault) for n, value in enumerate(seconds)]


def found(**changes):
    told = Found(
        fresh=[0.1, 0.2, 0.3],
        quiet=[window(0.1, 0.1), window(0.1, 0.1), window(0.2, 0.2)],
        loading=[window(0.1, 0.1), window(0.1, 0.1), window(0.2, 0.2)],
        loads=[0, 10**9, 0, 10**9, 0, 10**9],
    )
    for name, value in changes.items():
        setattr(told, name, value)
    return told


def broken(tmp_path, **changes):
    told = evidence(Given(tmp_path), SIZE, found(**changes))
    return [figure.name for figure in told.broken]


def test_a_quick_publish_and_undisturbed_hits_hold(tmp_path):
    assert broken(tmp_path) == []


@pytest.mark.parametrize(
    ("changes", "figure"),
    [
        ({"fresh": [0.1, 0.2]}, "publishes"),
        ({"fresh": [0.1, 0.3, 0.3]}, "first PUT byte to first prediction, p50"),
        ({"loading": [window(0.13), window(0.13), window(0.2)]}, f"{SLOWED}, median of rounds"),
        ({"loading": [window(0.1), window(0.1), window(0.25)]}, f"{SLOWED}, all rounds together"),
        ({"loads": [10**9, 0, 10**9, 0, 10**9, 0]}, "bytes loaded in loading windows"),
        ({"wrong": ["503 not_ready"]}, "wrong or failed"),
        ({"others": window(0.1, fault="wrong: x")}, "wrong or failed"),
        ({"quiet": [window(0.1, fault="504"), window(0.1), window(0.2)]}, "wrong or failed"),
    ],
)
def test_everything_else_breaks_the_promise(tmp_path, changes, figure):
    assert broken(tmp_path, **changes) == [figure]


def test_rounds_are_compared_one_by_one_and_their_median_counts():
    told = found(quiet=[window(0.1), window(1.0), window(0.1)], loading=[window(0.11), window(1.1), window(9.0)])
    assert over_quiet(told, 0.99) == pytest.approx(1.1)
    assert over_quiet(Found(), 0.99) != over_quiet(Found(), 0.99)  # NaN, which holds nowhere
    assert together(told, 0.99) == pytest.approx(9.0)
    assert together(Found(), 0.99) != together(Found(), 0.99)


def test_an_adapter_has_the_megabytes_that_it_is_said_to_have():
    profile = Forge(sentence_encoder(), ("a",), 0).profile
    config = large(profile.geometry)
    package = make_package(profile, "bottleneck", "x", 0, config=config)
    body = [shape for name, shape in expected(package.manifest, profile).items() if not name.startswith("head/")]
    nbytes = sum(4 * int(_product(shape)) for shape in body)
    assert nbytes == pytest.approx(MEGABYTES * 10**6, rel=0.02)


def _product(shape):
    total = 1
    for extent in shape:
        total *= extent
    return total


def measured(forge, monkeypatch, fake):
    monkeypatch.setattr(freshness, "PAUSE_S", 0.0)
    monkeypatch.setattr(freshness, "HITS", 200.0)
    monkeypatch.setattr(freshness, "OTHERS", 100.0)
    size = Size(3, 2, 0.05)

    def make(mark):
        return fake.learn(forge.make(mark, METHODS[len(fake.logits) % len(METHODS)]))

    class Stage:
        def __init__(self, session):
            self.session = lambda: session

    return asked(fake, lambda session: freshness._measure(Stage(session), make, size, 1))


def test_publishes_are_asked_at_once_and_windows_take_turns(forge, monkeypatch):
    fake = FakeService(forge.texts)
    told = measured(forge, monkeypatch, fake)
    assert len(told.fresh) == len(told.publishes) == 3
    assert told.tries == [1, 1, 1]
    assert all(fresh > alone for fresh, alone in zip(told.fresh, told.publishes, strict=True))
    assert len(told.quiet) == len(told.loading) == 2
    assert told.loads == [0] * 4
    assert all(told.quiet) and all(told.loading)
    assert told.wrong == []
    assert {sample.fault for sample in (*told.others, *told.quiet[0], *told.loading[1])} == {""}
    assert "POST resident/0:pin" in fake.calls
    assert "POST cold/0:pin" not in fake.calls


def test_an_answer_that_is_not_the_fresh_ones_is_wrong(forge, monkeypatch):
    fake = FakeService(forge.texts)
    learn = fake.learn

    def lie(made):
        learn(made)
        if len(fake.logits) <= 3:  # those that are published and asked at once are made first
            fake.logits[made.digest] = made.logits + 1
        return made

    fake.learn = lie
    told = measured(forge, monkeypatch, fake)
    assert told.wrong == ["wrong: another package answered"] * 3
    assert told.tries == [100] * 3


def test_a_bench_needs_a_service_that_takes_its_packages(forge, monkeypatch):
    fake = FakeService(forge.texts)
    fake.refused["pin"] = (409, "would_exceed_device")
    with pytest.raises(freshness.StageFailed, match="resident/0: 409 would_exceed_device"):
        measured(forge, monkeypatch, fake)
