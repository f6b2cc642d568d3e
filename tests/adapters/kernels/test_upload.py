from types import SimpleNamespace

import torch

from adapters.kernels.upload import upload


def test_a_tensor_of_the_host_stays_where_it_is_on_a_cpu():
    held = torch.arange(3)
    assert upload(held, torch.device("cpu")) is held


def test_nobody_waits_for_a_copy_to_an_accelerator():
    asked = []

    def to(device, non_blocking=False):
        asked.append((str(device), non_blocking))
        return "there"

    pinned = SimpleNamespace(to=to)
    given = SimpleNamespace(pin_memory=lambda: pinned, to=None)
    assert upload(given, torch.device("cuda")) == "there"
    assert asked == [("cuda", True)]
    assert upload(torch.ones(2), torch.device("meta")).device.type == "meta"
