"""AdapterHub: 32 adapters in one `BatchSplit`, or one row and one `set_active_adapters` at a time."""

from importlib import import_module
from importlib.metadata import version
from typing import Any

from loadtests.peers.contenders import MIXED, SWITCH
from loadtests.peers.messages import RunName, Work
from loadtests.peers.padding import in_order_of_arrival, one_by_one
from loadtests.peers.runs import Opened, Run
from loadtests.peers.torch_models import DTYPES, Inputs, plain_model, run_of

# The distribution's package has the name of this repository's own, which its process does not see.
LIBRARY, COMPOSITION = "adapters", "adapters.composition"


def opened(work: Work) -> Opened:
    """Load the model and the adapters of all methods."""
    library, composition = import_module(LIBRARY), import_module(COMPOSITION)
    model = plain_model(work)
    library.init(model)
    runs: dict[RunName, Run] = {}
    for method in work.methods:
        folders = [work.adapters / method / "adapterhub" / str(number) for number in range(len(work.rows))]
        names = [model.load_adapter(str(folder), with_head=False, use_safetensors=True) for folder in folders]
        block = composition.BatchSplit(*names, batch_sizes=[1] * len(names))
        runs[MIXED, method] = run_of([in_order_of_arrival(work.rows)], _mixed(model, block))
        runs[SWITCH, method] = run_of(one_by_one(work.rows), _switching(model, names))
    model.to(DTYPES[work.precision]).eval()
    return Opened({name: version(name) for name in ("adapters", "transformers", "torch")}, runs)


def _mixed(model: Any, block: Any) -> Any:
    def forward(_: int, inputs: Inputs) -> Any:
        # Several methods take turns in one model, so what is active is part of every pass; it costs microseconds.
        model.set_active_adapters(block)
        return model(**inputs)

    return forward


def _switching(model: Any, names: list[str]) -> Any:
    def forward(number: int, inputs: Inputs) -> Any:
        model.set_active_adapters(names[number])
        return model(**inputs)

    return forward
