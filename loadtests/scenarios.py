"""The scenarios by name: what each is for, and its defaults. The command line overrides any of them."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Scenario:
    """Defaults of one scenario; `zipf_s` 0 is uniform popularity."""

    about: str
    adapters: int
    rate: float
    requests: int
    zipf_s: float


SCENARIOS: Mapping[str, Scenario] = {
    "zipf": Scenario("many adapters, few of them popular: the ordinary life of a shared service", 50, 20.0, 1000, 1.0),
    "uniform": Scenario("every adapter as popular as every other: the cache's worst case", 50, 20.0, 1000, 0.0),
    "single": Scenario("one adapter only: what the service does without variety", 1, 20.0, 1000, 0.0),
}
