import numpy as np

from adapters.methods.tuners.clusters import clustered

# scikit-learn 1.9.1: KMeans(count, init="random", n_init=1, max_iter=steps, random_state=123456789) of `points(seed)`.
SKLEARN = {
    (0, 3, 10): [1, 1, 0, 2, 2, 2, 0, 1, 0, 2, 2, 1, 2, 1, 0, 1],
    (1, 5, 10): [2, 2, 2, 4, 4, 4, 4, 2, 0, 2, 1, 1, 3, 4, 4, 4],
    (2, 4, 1): [1, 0, 2, 2, 1, 2, 1, 1, 0, 3, 1, 1, 3, 0, 3, 1],
}


def points(seed):
    return np.random.default_rng(seed).normal(size=(16, 3)).astype(np.float32)


def test_they_are_those_of_scikit_learn():
    for (seed, count, steps), labels in SKLEARN.items():
        assert clustered(points(seed), count, steps, 123456789).tolist() == labels


def test_groups_that_lie_apart_are_found():
    apart = points(3) * 0.01 + np.repeat(np.eye(2, 3, dtype=np.float32) * 9, 8, axis=0)
    labels = clustered(apart, 2, 10, 123456789).reshape(2, 8)
    assert labels[0, 0] != labels[1, 0]
    assert (labels == labels[:, :1]).all()


def test_a_cluster_that_loses_its_points_is_given_the_farthest_one():
    alike = np.repeat(np.array([[0.0], [1.0], [5.0]], np.float32), 4, axis=0)  # as many clusters as different points
    for seed in range(20):
        assert len(set(clustered(alike, 3, 10, seed).tolist())) == 3


def test_the_seed_chooses_the_first_points():
    found = {tuple(clustered(points(0), 3, 1, seed).tolist()) for seed in range(8)}
    assert len(found) > 1
