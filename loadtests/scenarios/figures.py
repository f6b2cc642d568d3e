"""The figures of a run by name: what a threshold may be about, and in which words they are told.

Of a sweep, a figure is that of the worst step; of several rounds, the median, and of shares the worst. With `TENANT.` before the name, those that
are marked so are one tenant's own.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

Better = Literal["more", "less", ""]


@dataclass(frozen=True)
class Figure:
    """What a figure says; which way is better; whether each tenant has its own."""

    about: str
    unit: str
    better: Better = ""
    each: bool = False


FIGURES: Mapping[str, Figure] = {
    "requests": Figure("sent, warm-up included", ""),
    "wrong": Figure("answers that were somebody else's or nobody's, warm-up included", "", "less"),
    "failed": Figure("requests that were neither answered nor refused nor late, warm-up included", "", "less"),
    "refused_share": Figure("refused with a word when to come back, of all that was asked", "", "less", each=True),
    "late_share": Figure("given up at the deadline, of all that was asked", "", "less", each=True),
    "answered_share": Figure("right answers, of all that was asked", "", "more", each=True),
    "throughput": Figure("right answers", "requests/s", "more", each=True),
    "rows_per_s": Figure("texts in right answers", "rows/s", "more", each=True),
    "tokens_per_s": Figure("tokens in right answers", "tokens/s", "more", each=True),
    "p50_ms": Figure("wait of right answers from the intended time on, median", "ms", "less", each=True),
    "p90_ms": Figure("wait of right answers from the intended time on, 90th percentile", "ms", "less", each=True),
    "p99_ms": Figure("wait of right answers from the intended time on, 99th percentile", "ms", "less", each=True),
    "hit_ratio": Figure(
        "answers whose adapter was on the device when it was asked for, as answers say", "", "more", each=True
    ),
    "distinct_per_batch": Figure("different adapters in a forward pass, mean; of a sweep, in its last step", ""),
    "rows_per_batch": Figure("rows in a forward pass, mean; of a sweep, in its last step", ""),
    "client_lag_p99_ms": Figure(
        "how late requests left, or answers were read, by the client's own fault", "ms", "less"
    ),
    "fairness": Figure(
        "Jain's index of what tenants got over what a weighted fair share would be; 1 is fair; of open loops",
        "",
        "more",
    ),
    "busy_over_quiet_throughput": Figure(
        "tokens in right answers per second of a busy phase over those of the quiet one before it, median",
        "",
        "more",
        each=True,
    ),
    "busy_over_quiet_p50": Figure(
        "median wait of a busy phase over that of the quiet one before it, median", "", "less", each=True
    ),
    "busy_over_quiet_p99": Figure(
        "p99 of a busy phase over that of the quiet one before it, median", "", "less", each=True
    ),
    "published_per_s": Figure(
        "publishes that were acknowledged within the phase in which they were due, of whole phases", "1/s", "more"
    ),
    "publish_failed": Figure("publishes that were not acknowledged, or whose first answer was wrong", "", "less"),
    "publish_p99_ms": Figure("from when a publish was due to its acknowledgement, 99th percentile", "ms", "less"),
    "first_answer_p50_ms": Figure("from when a publish was due to its first right answer, median", "ms", "less"),
    "throughput_kept": Figure(
        "where not the load is swept, the least of any step over the first: of tokens per second in a closed loop, in an "
        "open one of the share of what was offered that was answered meanwhile",
        "",
        "more",
    ),
    "last_over_first_throughput": Figure("tokens per second of the last step over those of the first", "", "more"),
    "last_over_first_p50": Figure("median wait of the last step over that of the first", "", "less"),
    "last_over_first_p99": Figure("99th percentile of the last step over that of the first", "", "less"),
    "peak_rate": Figure("most right answers of any step", "requests/s", "more"),
    "knee_rate": Figure(
        "most that was offered and answered (95 % of it) before the first step that was not; "
        "where every step was, the last one: the knee lies beyond it",
        "requests/s",
        "more",
    ),
    "knee_load": Figure("the knee as a share of the peak that was measured first", "", "more"),
}


def is_figure(name: str, tenants: Collection[str]) -> bool:
    """Whether a threshold may be about it, in a scenario with these tenants."""
    tenant, dot, rest = name.rpartition(".")
    if not dot:
        return name in FIGURES
    return tenant in tenants and rest in FIGURES and FIGURES[rest].each


def figure_of(name: str) -> Figure:
    """The figure, also of a tenant's own."""
    return FIGURES[name.rpartition(".")[2]]
