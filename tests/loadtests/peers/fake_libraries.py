"""Libraries that are not installed where these tests run: what is asked of them is written down."""

from types import SimpleNamespace

import torch


class FakeModel:
    """Hidden states that are the number of the active adapter of a row; `asked` holds every call."""

    def __init__(self, asked):
        self.asked = asked
        self.active = None
        self.names = []

    def forward(self, input_ids, active):
        numbers = torch.tensor([float(self.names.index(name)) for name in active])
        states = numbers[:, None, None].expand(*input_ids.shape, 2)
        return SimpleNamespace(last_hidden_state=states)

    def to(self, dtype):
        self.asked.append(("to", dtype))
        return self

    def eval(self):
        self.asked.append(("eval",))
        return self
