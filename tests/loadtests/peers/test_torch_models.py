from dataclasses import replace
from pathlib import Path

import pytest
import torch

from loadtests.peers.padding import by_length, in_order_of_arrival
from loadtests.peers.torch_models import plain_model, run_of


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_the_model_is_in_its_precision_frozen_in_eval_and_without_pooler(work, precision, dtype):
    model = plain_model(replace(work, precision=precision))
    assert {tensor.dtype for tensor in model.parameters()} == {dtype}
    assert model.pooler is None
    assert not model.training
    assert torch.get_num_threads() == 1


def test_a_precision_of_its_own_goes_before_that_of_the_work(work):
    model = plain_model(replace(work, precision="bf16"), "fp32")
    assert {tensor.dtype for tensor in model.parameters()} == {torch.float32}


def test_weights_are_no_pages_of_the_file(work):
    model = plain_model(work)
    maps = Path("/proc/self/maps").read_text().splitlines()
    mapped = [line.split()[0].split("-") for line in maps if line.endswith(".safetensors")]
    spans = [(int(start, 16), int(end, 16)) for start, end in mapped]
    assert not [t for t in model.parameters() if any(start <= t.data_ptr() < end for start, end in spans)]


def test_batches_give_the_states_of_each_row_alone(work):
    model = plain_model(work)
    for batches in ([in_order_of_arrival(work.rows)], by_length(work.rows, 2)):
        run = run_of(batches, lambda _, inputs: model(**inputs))
        for row, found in zip(work.rows, run.rows(run.go()), strict=True):
            with torch.inference_mode():
                alone = model(input_ids=torch.tensor([row])).last_hidden_state[0]
            assert found.shape == alone.shape
            assert torch.allclose(torch.from_numpy(found), alone, atol=1e-5)


def test_each_batch_is_told_its_number(work):
    model, seen = plain_model(work), []
    run = run_of(by_length(work.rows, 2), lambda number, inputs: seen.append(number) or model(**inputs))
    run.go()
    assert seen == [0, 1, 2]
