"""What a client process is told, and what it tells of each request: plain values that travel as JSON."""

from dataclasses import dataclass

from loadtests.client.connection import Place

RIGHT, WRONG, REFUSED, LATE, FAILED = "right", "wrong", "refused", "late", "failed"
VERDICTS = (RIGHT, WRONG, REFUSED, LATE, FAILED)


@dataclass(frozen=True)
class Known:
    """One adapter, and what it answers to each of its texts: raw logits in the order of its labels."""

    tenant: int
    name: str
    digest: str
    labels: tuple[str, ...]
    texts: tuple[int, ...]  # of the pool
    logits: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Tenant:
    """Who asks; the key is empty for a service without keys."""

    name: str
    key: str


@dataclass(frozen=True)
class Plan:
    """One process's part of a load.

    Open loop: `requests` holds seconds after the start, the adapter, and its texts. Closed loop: `closed` requests are under
    way for `seconds`, taken from `requests` in turn. `written` is the file for the samples.
    """

    place: Place
    tenants: tuple[Tenant, ...]
    texts: tuple[str, ...]
    known: tuple[Known, ...]
    requests: tuple[tuple[float, int, tuple[int, ...]], ...]
    seconds: float
    timeout_ms: int
    tolerance: float  # absolute, on raw logits
    written: str
    closed: int = 0
    most: int = 8192  # requests under way: what is due beyond them is not sent, and has failed
    heard_s: float = 0.5  # how often it says how far it is


@dataclass(frozen=True, slots=True)
class Sample:
    """One request: seconds after the start at which it should have left, left, and was answered; and what came of it.

    `status` is 0 where no HTTP answer came. `tiers` are those in which its packages were found; times of the service are
    those that it told, of the request's slowest row.
    """

    intended: float
    sent: float
    done: float
    status: int
    verdict: str
    detail: str
    tenant: str
    adapter: str
    tiers: tuple[str, ...]
    rows: int
    tokens: int
    queue_ms: float
    load_ms: float
    forward_ms: float

    @property
    def seconds(self) -> float:
        """From when it should have left to its answer: a client that is late hides no slow service."""
        return self.done - self.intended


@dataclass(frozen=True)
class Lag:
    """How well a process kept to its times: milliseconds that requests left late, and that its loop was busy elsewhere."""

    sent_p99: float
    sent_max: float
    loop_p99: float
    loop_max: float
    connections: int
    again: int  # requests that were sent a second time: see `loadtests.client.connection.Pool`


@dataclass(frozen=True)
class Publishes:
    """What the publishing process is told: one package, whose numbered copies differ in two biases of its head.

    Copy k answers what the package answers, plus `steps(k)` to its first two logits: every copy is other bytes, nothing has to
    be computed for it, and its answer is known. `offsets` are where in the file the two biases lie (float32).
    """

    place: Place
    tenant: Tenant
    name: str
    package: str  # a file
    offsets: tuple[int, int]
    biases: tuple[float, float]
    step: float
    known: Known  # of the package itself; its digest is that of the copy that is asked
    text: str
    at: tuple[float, ...]  # seconds after the start
    ask: bool
    timeout_ms: int
    tolerance: float
    written: str

    def steps(self, number: int) -> tuple[float, float]:
        """What is added to the two biases of a copy."""
        return self.step * (number % TURN + 1), self.step * (number // TURN + 1)


TURN = 50  # copies that differ in the first bias alone


@dataclass(frozen=True, slots=True)
class Published:
    """One publish: seconds after the start at which it should have begun, began, was acknowledged, and was first answered.

    `answered` is None where nobody asked, or no right answer came; `detail` tells what went wrong.
    """

    intended: float
    sent: float
    done: float
    status: int
    answered: float | None
    verdict: str
    detail: str
    bytes: int
