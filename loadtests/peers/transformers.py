"""Plain transformers: the backbone alone."""

from collections.abc import Sequence
from importlib.metadata import version

from loadtests.peers.messages import Work
from loadtests.peers.padding import Batch
from loadtests.peers.runs import Opened, Run, bare_runs
from loadtests.peers.torch_models import plain_model, run_of


def opened(work: Work) -> Opened:
    """Load the model."""
    model = plain_model(work)

    def run(batches: Sequence[Batch], note: str) -> Run:
        return run_of(batches, lambda _, inputs: model(**inputs), note)

    return Opened({name: version(name) for name in ("transformers", "torch")}, bare_runs(work.rows, run))
