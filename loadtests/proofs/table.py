"""Every proof by its name, one line each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from loadtests.proofs import (
    churn,
    engine_kills,
    freshness,
    fuzzing,
    hostile,
    isolation,
    neighbours,
    outages,
    overload,
    poison,
    publish_kills,
)
from loadtests.proofs.evidence import Evidence
from loadtests.proofs.given import Given


@dataclass(frozen=True)
class Proof:
    """One promise, and what tries to break it."""

    about: str
    run: Callable[[Given], Evidence]


PROOFS: Mapping[str, Proof] = {
    "publish-kills": Proof("no acknowledged version is lost, torn or doubled by kill -9", publish_kills.run),
    "churn": Proof("the right adapter answers while everything moves; planted faults are caught", churn.run),
    "freshness": Proof("a publish answers at once, and loads do not slow hits down", freshness.run),
    "outages": Proof("what is known is served without database and blob store", outages.run),
    "isolation": Proof("what is another tenant's is as absent as what is nobody's, on every route", isolation.run),
    "hostile": Proof("hostile packages are refused with a reason, and nothing else happens", hostile.run),
    "fuzzing": Proof("schemathesis finds no server error", fuzzing.run),
    "engine-kills": Proof("an engine that is killed costs no request", engine_kills.run),
    "poison": Proof(
        "a text that kills engines takes two of them at most; the requests beside it are answered", poison.run
    ),
    "neighbours": Proof("a tenant that floods does not slow another one down; weights hold", neighbours.run),
    "overload": Proof("under overload as much is answered as before, and the rest refused at once", overload.run),
}
