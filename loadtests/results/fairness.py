"""Who got how much of what there was, compared with weighted max-min fairness: nobody gets more while another one lacks."""

from collections.abc import Mapping, Sequence


def fair_shares(demand: Mapping[str, float], weight: Mapping[str, float], capacity: float) -> dict[str, float]:
    """What each would get: its demand where that is less than its weighted part, and the rest goes to the others."""
    left, open_ = capacity, {name for name, wanted in demand.items() if wanted > 0}
    given = dict.fromkeys(demand, 0.0)
    while open_ and left > 0:
        level = left / sum(weight[name] for name in open_)
        content = {name for name in open_ if demand[name] <= level * weight[name]}
        if not content:
            return given | {name: level * weight[name] for name in open_}
        for name in content:
            given[name] = demand[name]
            left -= demand[name]
        open_ -= content
    return given


def jain(values: Sequence[float]) -> float:
    """Jain's index, (sum x)^2 / (n sum x^2): 1 where all are equal, 1/n where one has everything (Jain et al. 1984)."""
    squares = sum(value * value for value in values)
    return sum(values) ** 2 / (len(values) * squares) if squares else 1.0


def fairness(demand: Mapping[str, float], got: Mapping[str, float], weight: Mapping[str, float]) -> float:
    """Jain's index of what each got over what it should have got of all that was given away."""
    fair = fair_shares(demand, weight, sum(got.values()))
    return jain([got[name] / share for name, share in fair.items() if share > 0])
