import pytest

from adapters.architectures.profile import read_profile
from adapters.formats import check, native
from loadtests.micro import resident
from loadtests.synthetic import make_package
from tests.e2e.service import make_backbone


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return make_backbone(tmp_path_factory.mktemp("resident") / "tiny-bert")


@pytest.mark.parametrize("method", ["bottleneck", "lora"])
def test_a_sized_adapter_has_about_the_bytes_that_were_asked_for_and_passes_the_check(backbone, method):
    profile = read_profile(backbone)
    package = make_package(profile, method, "x", 0, config=resident.sized(method, profile.geometry, 200_000))
    check.check(package, profile)
    assert 180_000 < len(native.write(package)) < 220_000


def test_every_round_loads_another_adapter_cold(backbone):
    found = resident.measure(backbone, "lora", 50_000, 3)
    assert len(found) == 3
    assert all(way.checked > 0 and way.acquired > 0 and way.nbytes > 40_000 for way in found)


@pytest.mark.parametrize(("limit", "code"), [("1e9", 0), ("0", 1)])
def test_the_exit_code_says_whether_the_limit_was_kept(backbone, capsys, limit, code):
    words = ["--backbone", str(backbone), "--bytes", "50000", "--rounds", "2", "--limit-ms", limit]
    assert resident.main(words) == code
    told = capsys.readouterr().out
    assert "read and checked" in told and "fetched and resident" in told and "in all" in told
