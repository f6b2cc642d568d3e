"""LoRA that began as a part of the frozen map, which is taken out of the map wherever the adapter runs.

    y = (W - c U U^T W) x + b + scaling * B A x        U [out, r], orthonormal

pissa: c is 1, and U are the first left singular vectors of W (Meng et al. 2024, arXiv:2404.02948); olora: c is the
scaling, and U are the first columns of Q in W = Q R (Büyükakyüz 2024, arXiv:2406.01775); kasa: c is 1, and U are the last
left singular vectors (Wang et al. 2024, arXiv:2412.06071). PEFT repeats this from W at
every load, whatever A and B have become since.
"""

import torch
from torch import Tensor

STARTS = ("none", "pissa", "olora", "kasa")


def without_start(start: str, down: Tensor, up: Tensor, scaling: float, weight: Tensor) -> tuple[Tensor, Tensor]:
    """A [2 r, in] and B [out, 2 r], at a scaling of one, of A [r, in] and B [out, r] and what is taken out of W."""
    rank = down.shape[0]
    wide = weight.double()
    if start == "olora":
        basis = torch.linalg.qr(wide[:, :rank]).Q
    elif start == "kasa":
        basis = torch.linalg.svd(wide, full_matrices=False).U[:, -rank:]
    elif wide.shape[0] <= wide.shape[1]:
        basis = torch.linalg.eigh(wide @ wide.T).eigenvectors[:, -rank:]
    else:
        values, vectors = torch.linalg.eigh(wide.T @ wide)
        basis = wide @ vectors[:, -rank:] / values[-rank:].clamp(min=torch.finfo(torch.float64).tiny).sqrt()
    part = (basis.T @ wide * (scaling if start == "olora" else 1.0)).to(down)
    return torch.cat([down, part]), torch.cat([up * scaling, -basis.to(up)], dim=1)
