from contextlib import contextmanager

from serving.registry import check_trial
from serving.registry.check_attempts import NO_BACKBONE, Attempts


class Confinement:
    def __init__(self):
        self.loads = []

    @contextmanager
    def loading(self):
        self.loads.append("begun")
        yield
        self.loads.append("done")


def test_the_backbone_is_loaded_at_the_first_trial_and_once(tmp_path, monkeypatch):
    loaded = []

    class Trials:
        @classmethod
        def load(cls, folder):
            loaded.append(folder)
            return cls()

        def run(self, package, text):
            return package, text

    monkeypatch.setattr(check_trial, "Trials", Trials)
    confinement = Confinement()
    attempts = Attempts(tmp_path, confinement)
    assert (loaded, confinement.loads) == ([], [])
    assert attempts.run("package", "text") == ("package", "text")
    attempts.run("package", "text")
    assert (loaded, confinement.loads) == ([tmp_path], ["begun", "done"])


def test_without_a_backbone_nothing_is_tried():
    assert Attempts(None, Confinement()).run("package", "text") == (None, NO_BACKBONE)
