"""K-means: Lloyd 1982, from randomly chosen points, with the choices and the stopping rules of scikit-learn (1.9).

Adapters of AdaMSS hold what they changed in the order of clusters which are nowhere stored.
"""

import numpy as np
from numpy.typing import NDArray

_TOLERANCE = 1e-4  # of the mean variance of a column

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]


def clustered(points: Floats, count: int, steps: int, seed: int) -> Labels:
    """The cluster [n] of each of the points [n, width]."""
    points = points.astype(np.float32)
    tolerance = float(np.mean(np.var(points, axis=0)) * _TOLERANCE)
    points = points - points.mean(axis=0)
    weights = np.ones(len(points), np.float32)
    # scikit-learn draws from numpy's older generator.
    generator = np.random.RandomState(seed)
    centres = points[generator.choice(len(points), size=count, replace=False, p=weights / weights.sum())]
    labels = np.full(len(points), -1)
    for _ in range(steps):
        before, labels = labels, _nearest(points, centres)
        moved = _means(points, centres, labels)
        shift, centres = float(((moved - centres) ** 2).sum()), moved
        if np.array_equal(labels, before):
            return labels
        if shift <= tolerance:
            break
    return _nearest(points, centres)


def _nearest(points: Floats, centres: Floats) -> Labels:
    distances = np.einsum("ij,ij->i", centres, centres) - 2 * (points @ centres.T)  # less the point's own length
    nearest: Labels = np.argmin(distances, axis=1)
    return nearest


def _means(points: Floats, centres: Floats, labels: Labels) -> Floats:
    """The mean of each cluster; an empty one is given the point that lies farthest from its own centre."""
    sums = np.zeros_like(centres)
    np.add.at(sums, labels, points)
    sizes = np.bincount(labels, minlength=len(centres)).astype(np.float32)
    empty = np.flatnonzero(sizes == 0)
    if len(empty):
        apart = ((points - centres[labels]) ** 2).sum(axis=1)
        for cluster, point in zip(empty, np.argpartition(apart, -len(empty))[: -len(empty) - 1 : -1], strict=True):
            sums[labels[point]] -= points[point]
            sizes[labels[point]] -= 1
            sums[cluster], sizes[cluster] = points[point], 1
    shares: Floats = (1 / np.maximum(sizes, 1)).astype(np.float32)  # as scikit-learn: no division
    return sums * shares[:, None]
