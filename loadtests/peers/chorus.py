"""Chorus: 32 distinct adapters in one batch, and the backbone alone; both through `Backbone.run`, planning included."""

from collections.abc import Sequence
from importlib.metadata import version

import numpy as np
import torch
from torch import Tensor

from adapters.backbone import Backbone
from adapters.batch.rows import Row
from adapters.formats import native
from adapters.methods.fold import fold
from loadtests.micro.mixed import side_by_side
from loadtests.peers.contenders import MIXED, PACKED
from loadtests.peers.messages import RunName, Work
from loadtests.peers.runs import Opened, Run, States
from loadtests.peers.torch_models import DTYPES


def opened(work: Work) -> Opened:
    """Load the backbone and the adapters of all methods."""
    torch.set_num_threads(work.threads)
    dtype = DTYPES[work.precision]
    backbone = Backbone.load(work.backbone, dtype=dtype)
    ids = [np.array(row, np.int64) for row in work.rows]
    runs: dict[RunName, Run] = {(PACKED, None): _run(backbone, [Row((), None, None, row) for row in ids])}
    for method in work.methods:
        files = [work.adapters / method / "native" / f"{number}.safetensors" for number in range(len(ids))]
        packages = [native.read(file.read_bytes()) for file in files]
        residents = side_by_side([fold(package, backbone.profile, dtype, backbone.base_maps) for package in packages])
        rows = [Row((held,), None, None, row) for held, row in zip(residents, ids, strict=True)]
        runs[MIXED, method] = _run(backbone, rows)
    return Opened({name: version(name) for name in ("chorus", "transformers", "torch")}, runs)


def _run(backbone: Backbone, rows: Sequence[Row]) -> Run:
    return Run(lambda: backbone.run(rows, ["hidden_state"] * len(rows)), _states)


def _states(answers: Sequence[Tensor]) -> list[States]:
    return [answer.float().numpy() for answer in answers]
