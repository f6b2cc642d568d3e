"""PEFT: a mixed batch by `adapter_names=`, or one row and one `set_adapter` at a time."""

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from typing import Any

from loadtests.peers.contenders import MIXED, SWITCH
from loadtests.peers.messages import RunName, Work
from loadtests.peers.padding import in_order_of_arrival, one_by_one
from loadtests.peers.runs import Opened, Run
from loadtests.peers.torch_models import Inputs, plain_model, run_of


def opened(work: Work) -> Opened:
    """Load the model and the adapters of all methods."""
    library = import_module("peft")
    model: Any = plain_model(work)
    runs: dict[RunName, Run] = {}
    # PEFT would keep adapters of a bfloat16 model in float32, which is slower.
    options = {"autocast_adapter_dtype": False}
    for method in work.methods:
        folders = [work.adapters / method / "peft" / str(number) for number in range(len(work.rows))]
        names = [f"{method}-{number}" for number in range(len(folders))]
        for name, folder in zip(names, folders, strict=True):
            if isinstance(model, library.PeftModel):
                model.load_adapter(str(folder), adapter_name=name, **options)
            else:
                model = library.PeftModel.from_pretrained(model, str(folder), adapter_name=name, **options)
        runs[MIXED, method] = run_of([in_order_of_arrival(work.rows)], _mixed(model, names))
        runs[SWITCH, method] = run_of(one_by_one(work.rows), _switching(model, names))
    model.eval()
    return Opened({name: version(name) for name in ("peft", "transformers", "torch")}, runs)


def _mixed(model: Any, names: list[str]) -> Callable[[int, Inputs], Any]:
    return lambda _, inputs: model(**inputs, adapter_names=names)


def _switching(model: Any, names: list[str]) -> Callable[[int, Inputs], Any]:
    def forward(number: int, inputs: Inputs) -> Any:
        model.set_adapter(names[number])
        return model(**inputs)

    return forward
