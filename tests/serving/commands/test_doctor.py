import pytest

from serving.commands import doctor
from tests.adapters import builders
from tests.serving.hand import Hand

NOWHERE = Hand("http://127.0.0.1:1")


def findings(hand, *arguments, code=0):
    return {item["what"]: (item["good"], item["found"]) for item in hand.json("doctor", *arguments, code=code)}


def test_an_installation_is_in_order_without_a_service():
    found = findings(NOWHERE)
    assert all(good for good, _ in found.values()), found
    assert found["service http://127.0.0.1:1"] == (True, "does not run")
    assert {"python", "torch", "ray", "import adapters", "import serving"} <= found.keys()


def test_a_running_service_a_backbone_and_a_data_folder_are_looked_at(hand, tmp_path):
    made = hand.run("key", "create", "--data", tmp_path)
    assert made.stdout
    found = findings(hand, "--backbone", builders.folder("bert"), "--data", tmp_path)
    assert found[f"service {hand.url}"] == (True, "ready, backbone tiny-bert")
    assert "bert, 2 layers of 32" in found["backbone"][1]
    assert found["data folder"] == (True, f"{tmp_path} answers")


def test_the_database_that_is_named_is_looked_at_and_not_the_one_of_the_folder(tmp_path, monkeypatch):
    NOWHERE.run("key", "create", "--data", tmp_path)
    monkeypatch.setenv("CHORUS_DATABASE_URL", "postgresql://u:hunter2@127.0.0.1:1/x")
    found = findings(NOWHERE, "--data", tmp_path, code=1)
    good, told = found["database"]
    assert not good and "127.0.0.1:1/x does not answer: " in told and "hunter2" not in told
    assert "data folder" not in found
    named = f"sqlite:///{tmp_path / 'registry.sqlite'}"
    assert findings(NOWHERE, "--database-url", named)["database"] == (True, f"{tmp_path / 'registry.sqlite'} answers")


def test_a_service_that_is_not_ready_is_a_finding(hand, held):
    held.fleet.is_ready = False
    good, _ = findings(hand, code=1)[f"service {hand.url}"]
    assert not good


def test_what_is_no_backbone_is_told_with_exit_code_1(tmp_path):
    result = NOWHERE.run("doctor", "--backbone", tmp_path, code=1)
    assert f"{tmp_path} is no backbone" in result.stdout


def test_another_distribution_in_front_of_ours_is_found(monkeypatch):
    monkeypatch.setattr(doctor, "PACKAGES", ("json",))
    (finding,) = doctor._identities()
    assert not finding.good
    assert "another distribution" in finding.found


@pytest.mark.parametrize("missing", ["no-such-distribution"])
def test_a_missing_distribution_is_found(monkeypatch, missing):
    monkeypatch.setattr(doctor, "DISTRIBUTIONS", (missing,))
    (finding,) = doctor._versions()
    assert (finding.good, finding.what) == (False, missing)


def test_a_backbone_of_images_needs_what_its_images_are_brought_to(tmp_path):
    folder = builders.variant("vit", num_channels=3)
    good, told = findings(NOWHERE, "--backbone", folder, code=1)["backbone"]
    assert not good and "holds no preprocessor_config.json" in told
    (folder / "preprocessor_config.json").write_text('{"size": {"height": 8, "width": 12}}')
    assert "vit, 2 layers of 32" in findings(NOWHERE, "--backbone", folder)["backbone"][1]
