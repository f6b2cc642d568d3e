"""A scenario as a frozen value: who asks, what for, how often, for how long, and what the answer to it has to be.

Every class is one table of the TOML file, every field one member of it; `loadtests.scenarios.reading` refuses the rest.
Times are seconds unless named otherwise, lengths are tokens with the special ones.
"""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from loadtests.scenarios.figures import is_figure

STRICT = ConfigDict(extra="forbid", strict=True)
Count = Annotated[int, Field(ge=1, le=100_000)]
Rate = Annotated[float, Field(gt=0, le=20_000)]  # requests per second
Span = Annotated[float, Field(gt=0, le=3600)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Law = Literal["zipf", "uniform", "power", "distinct", "identical", "sqrt", "geometric"]
Method = Literal["bottleneck", "lora", "ia3", "prefix_tuning", "prompt_tuning"]  # of `loadtests.synthetic`
Knob = Literal["rate", "load", "closed", "cv", "adapters", "device", "s", "law", "rows"]


@dataclass(frozen=True)
class Adapters:
    """What is published before the load: `count` for each tenant, methods (and LoRA ranks) in turn."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    count: Count = 100
    methods: Annotated[tuple[Method, ...], Field(min_length=1)] = ("bottleneck", "lora")
    ranks: Annotated[tuple[Annotated[int, Field(ge=1, le=256)], ...], Field(min_length=1)] = (8,)
    texts: Annotated[int, Field(ge=0, le=256)] = 0  # different texts of each; 0 is 64 of the first, down to 4 of most

    def texts_of(self, number: int) -> int:
        """Texts of one adapter. The first have many: where there are few adapters, a few lengths would decide everything."""
        return self.texts or max(4, min(64, 512 // (number + 1)))


@dataclass(frozen=True)
class Popularity:
    """Whom a request asks: see `loadtests.traffic.popularity` for the laws. `s` is the law's own parameter."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    law: Law = "zipf"
    s: NotNegative = 1.0
    drift_s: NotNegative = 0.0  # every so often a tenth of the ranks goes to others; 0 is never


@dataclass(frozen=True)
class Arrivals:
    """How often is asked: requests per second, or a share of the peak that is measured first, or so many under way.

    The first two are an open loop: a renewal process whose gaps have the coefficient of variation `cv` (0 is a clock, 1 a
    Poisson process), faster and slower by `depth` in the course of each of `days`.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    rate: Rate | None = None
    load: Annotated[float, Field(gt=0, le=10)] | None = None
    closed: Annotated[int, Field(ge=1, le=4096)] | None = None
    cv: NotNegative = 1.0
    depth: Annotated[float, Field(ge=0, lt=1)] = 0.0
    days: Annotated[int, Field(ge=1)] = 1

    def __post_init__(self) -> None:
        if sum(value is not None for value in (self.rate, self.load, self.closed)) != 1:
            raise ValueError(
                "say one of `rate` (requests per second), `load` (share of the peak) and `closed` (under way)"
            )
        if self.closed is not None and (self.cv != 1.0 or self.depth):
            raise ValueError("`closed` has no arrivals of its own: leave out `cv` and `depth`")


@dataclass(frozen=True)
class Lengths:
    """Tokens of a text: log-normal around `mean` (before `shift` is added), uniform between the ends, or all `mean`."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    law: Literal["lognormal", "uniform", "fixed"] = "lognormal"
    mean: Positive = 32.0
    sigma: NotNegative = 0.6
    shift: float = 0.0
    lowest: Annotated[int, Field(ge=4)] = 4
    highest: Annotated[int, Field(ge=4)] = 128

    def __post_init__(self) -> None:
        if self.lowest > self.highest:
            raise ValueError(f"`lowest` {self.lowest} is above `highest` {self.highest}")


@dataclass(frozen=True)
class Requests:
    """One request: so many texts for one adapter, answered within `timeout_ms` or not at all."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    rows: Annotated[int, Field(ge=1, le=256)] = 1
    timeout_ms: Annotated[int, Field(ge=1, le=120_000)] = 10_000
    lengths: Lengths = field(default_factory=Lengths)


@dataclass(frozen=True)
class Tenant:
    """One caller with adapters and a key of its own. Rates go by `share`; `weight` is its weight in the service."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    name: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$")]
    share: Positive = 1.0
    weight: Positive = 1.0
    only: Literal["always", "busy"] = "always"


@dataclass(frozen=True)
class Times:
    """How long: what is asked during `warmup_s` counts for nothing; with `phase_s`, quiet and busy phases take turns."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    seconds: Span = 20.0
    warmup_s: NotNegative = 3.0
    phase_s: NotNegative = 0.0
    settle_s: NotNegative = 0.0  # of a quiet phase after a busy one: what was left to do then counts for neither
    probe_s: Span = 5.0  # of the closed loop that finds the peak, where `load` asks for it
    rounds: Annotated[int, Field(ge=1, le=100)] = 1  # of everything, there and back

    def __post_init__(self) -> None:
        if self.phase_s and self.seconds < 2 * self.phase_s:
            raise ValueError(f"{self.seconds:g} seconds hold no quiet and busy phase of {self.phase_s:g} each")
        if self.settle_s and self.settle_s >= self.phase_s:
            raise ValueError(f"`settle_s` {self.settle_s:g} leaves nothing of a phase of {self.phase_s:g} seconds")


@dataclass(frozen=True)
class Publishing:
    """What is published beside the load: always, or in busy phases where there are any. `ask` asks each one once."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    per_s: Positive = 1.0
    megabytes: Positive = 3.0
    ask: bool = True


@dataclass(frozen=True)
class Room:
    """Adapters (of mean size) that fit into a tier of each engine; None leaves the service's default."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    device: Count | None = None
    host: Count | None = None


@dataclass(frozen=True)
class Sweep:
    """The same load at several values of one knob."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    over: Knob
    values: tuple[float | int | str, ...]

    def __post_init__(self) -> None:
        if len(set(self.values)) != len(self.values) or len(self.values) < 2:
            raise ValueError("`values` needs two different ones at least, each of them once")


@dataclass(frozen=True)
class Threshold:
    """What a figure has to be; `python -m loadtests list --figures` names them."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    figure: str
    at_most: float | None = None
    at_least: float | None = None

    def __post_init__(self) -> None:
        if (self.at_most is None) == (self.at_least is None):
            raise ValueError(f"{self.figure}: say one of `at_most` and `at_least`")

    def holds(self, value: float | None) -> bool:
        """Whether a value is as it has to be; one that could not be measured is not."""
        if value is None:
            return False
        return value <= self.at_most if self.at_most is not None else value >= (self.at_least or 0.0)


@dataclass(frozen=True)
class Scenario:
    """One file."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    about: Annotated[str, Field(min_length=1, max_length=200)]
    arrivals: Arrivals
    adapters: Adapters = field(default_factory=Adapters)
    popularity: Popularity = field(default_factory=Popularity)
    requests: Requests = field(default_factory=Requests)
    time: Times = field(default_factory=Times)
    tenants: tuple[Tenant, ...] = (Tenant("default"),)
    publishing: Publishing | None = None
    room: Room = field(default_factory=Room)
    sweep: Sweep | None = None
    thresholds: tuple[Threshold, ...] = ()

    def __post_init__(self) -> None:
        names = [tenant.name for tenant in self.tenants]
        if unknown := [bound.figure for bound in self.thresholds if not is_figure(bound.figure, names)]:
            raise ValueError(
                f"`thresholds`: no figure {', '.join(unknown)}; `python -m loadtests list --figures` names them"
            )
        if not names or len(set(names)) != len(names):
            raise ValueError("`tenants` needs one at least, each name once")
        if any(tenant.only == "busy" for tenant in self.tenants):
            if not self.time.phase_s:
                raise ValueError('a tenant with `only = "busy"` needs `time.phase_s`')
            if all(tenant.only == "busy" for tenant in self.tenants):
                raise ValueError("in quiet phases nobody asks: leave one tenant without `only`")
            if self.arrivals.closed is not None:
                raise ValueError('`only = "busy"` needs an open loop: say `arrivals.rate` or `arrivals.load`')
        if self.time.phase_s and self.publishing is None and all(tenant.only == "always" for tenant in self.tenants):
            raise ValueError("`time.phase_s` without `publishing` or a busy tenant: both phases would be the same")
