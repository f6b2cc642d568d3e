import pytest
import torch

from adapters.errors import Misfit
from adapters.methods.fold import fitting_of
from adapters.methods.multitask_prompt import MULTITASK_PROMPT
from adapters.methods.prompt_tuning import BEFORE, WORD_PROMPT
from adapters.weights import Insertion
from tests.adapters import builders
from tests.adapters.builders import HIDDEN

FITTING = fitting_of(builders.profile("bert"))
SAID = {"length": 3, "segments": False, "ranks": 2, "tasks": 3, "task": 1}


def drawn(config=SAID):
    generator = torch.Generator().manual_seed(5)
    shapes = MULTITASK_PROMPT.shapes(config, FITTING).items()
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes}


def folded(config, tensors):
    ((address, block),) = MULTITASK_PROMPT.fold(config, tensors, FITTING).items()
    assert address == BEFORE
    assert (block.method, block.variant) == (WORD_PROMPT.name, 0)
    return block.tensors["prompt"]


@pytest.mark.parametrize("task", [0, 1, 2])
def test_every_task_s_prompt_is_the_shared_one_times_its_own_product(task):
    tensors = drawn()
    held = {name.removeprefix(f"{BEFORE}/"): tensor for name, tensor in tensors.items()}
    prompt = folded({**SAID, "task": task}, tensors)
    for token in range(3):
        for place in range(HIDDEN):
            product = sum(held["columns"][task, token, rank] * held["rows"][task, rank, place] for rank in range(2))
            assert torch.isclose(prompt[token, place], held["prompt"][token, place] * product, atol=1e-6)


def test_other_tasks_leave_no_trace():
    tensors = drawn()
    before = folded(SAID, tensors)
    for name in (f"{BEFORE}/columns", f"{BEFORE}/rows"):
        tensors[name][0] = tensors[name][2] = float("nan")
    assert torch.equal(folded(SAID, tensors), before)


def test_it_goes_in_where_a_prompt_of_words_does_and_starts_as_one():
    plain = {"length": 3, "segments": False}
    assert MULTITASK_PROMPT.insertion(SAID) == WORD_PROMPT.insertion(plain) == Insertion(3, 0, shift=3, segments=False)
    made = MULTITASK_PROMPT.initialise(SAID, FITTING, torch.Generator().manual_seed(1))
    assert {name: tuple(t.shape) for name, t in made.items()} == MULTITASK_PROMPT.shapes(SAID, FITTING)
    deviations = {name.removeprefix(f"{BEFORE}/"): float(tensor.std()) for name, tensor in made.items()}
    assert deviations["prompt"] > 0.5
    assert max(deviations["columns"], deviations["rows"]) < 0.05


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"task": 3}, "task must be an integer from 0 to 2, not 3"),
        ({"task": True}, "task must be an integer from 0 to 2, not True"),
        ({"tasks": 0}, "tasks must be an integer from 1 to 4096"),
        ({"ranks": 0}, "ranks must be an integer"),
        ({"length": 513}, "length must be an integer from 1 to 512"),
        ({"segments": None}, "segments must be true or false"),
        ({"at": "prefix"}, "unknown setting 'at'"),
    ],
)
def test_wrong_settings_are_refused(changes, reason):
    with pytest.raises(Misfit, match=f"multitask_prompt: {reason}"):
        MULTITASK_PROMPT.insertion(SAID | changes)
