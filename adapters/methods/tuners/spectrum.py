"""The leading singular vectors of a matrix, approximately: Halko et al. 2011 (arXiv:0909.4061), algorithms 4.4 and 5.1.

Torch has it as `svd_lowrank`, but draws from the generator that the whole process shares.
"""

import torch
from torch import Tensor


def leading(matrix: Tensor, rank: int, iterations: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """U [rows, rank], S [rank], V^T [rank, columns], as torch's under the seed on a CPU."""
    wide = matrix.shape[0] < matrix.shape[1]
    tall = matrix.T if wide else matrix
    start = torch.randn(tall.shape[1], rank, generator=torch.Generator().manual_seed(seed), dtype=matrix.dtype)
    basis = torch.linalg.qr(tall @ start).Q
    for _ in range(iterations):
        basis = torch.linalg.qr(tall.T @ basis).Q
        basis = torch.linalg.qr(tall @ basis).Q
    left, values, right = torch.linalg.svd(basis.T @ tall, full_matrices=False)
    left = basis @ left
    return (right.T, values, left.T) if wide else (left, values, right)
