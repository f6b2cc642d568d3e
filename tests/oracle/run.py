"""One round trip: draw and make, read and judge, write again, have it loaded, and judge what came back."""

import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from adapters.architectures.profile import read_profile
from adapters.errors import AdapterError
from tests.conformance import run as conformance
from tests.conformance.report import CaseOutcome
from tests.oracle import native, writing
from tests.oracle.libraries import Library

SPARE = 2  # draws per case that is wanted: what the library itself can not run is drawn again


@dataclass(frozen=True)
class Outcome:
    """One case at one stage of its trip (`read`, `written`); `about` is what was drawn."""

    case: CaseOutcome
    stage: str
    about: str


@dataclass(frozen=True)
class Trip:
    """What a run found. `beyond`: (name, reason) of draws that the library itself could not make."""

    library: str
    seed: int
    outcomes: tuple[Outcome, ...]
    beyond: tuple[tuple[str, str], ...]

    @property
    def good(self) -> bool:
        """Whether something was compared and nothing failed."""
        found = [outcome.case.outcome for outcome in self.outcomes]
        return "failed" not in found and "passed" in found

    def lines(self) -> Iterator[str]:
        """Everything that did not pass, and a line for each stage."""
        for outcome in self.outcomes:
            if outcome.case.outcome != "passed":
                case = outcome.case
                yield f"{case.outcome} {case.id} ({outcome.stage}; {outcome.about}): {case.reason}"
        for stage in dict.fromkeys(outcome.stage for outcome in self.outcomes):
            held = [outcome.case.outcome for outcome in self.outcomes if outcome.stage == stage]
            counts = ", ".join(f"{held.count(kind)} {kind}" for kind in ("passed", "refused", "failed"))
            yield f"{self.library} {stage}: {counts}"
        yield f"{self.library} itself could not run {len(self.beyond)} draws; seed {self.seed}"


def trip(
    library: Library,
    seed: int,
    count: int,
    *,
    root: Path | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> Trip:
    """Run `count` drawn cases; `root` keeps their folders. Raises `WorkerFailed`."""
    with tempfile.TemporaryDirectory(prefix="oracle-") as scratch:
        place = (Path(scratch) if root is None else root).resolve()  # links to it hold from wherever they are read
        made, beyond = _make(library, seed, count, place / "made")
        tell(f"{library.name}: {len(made)} cases made, {len(beyond)} draws beyond the library")
        about = {name: str(writing.settings(place / "made" / library.name / name)["method"]) for name in made}
        read = _judged(place / "made", library.name, made)
        written, refused = _write(library, place, made, read)
        library.load(place / "written", written)
        again = {**refused, **_unloaded(library, place, written)}
        _return(library, place, written)
        again |= _judged(place / "returned", library.name, written)
        outcomes = [Outcome(found, "read", about[name]) for name, found in read.items()]
        outcomes += [Outcome(found, "written", about[name]) for name, found in again.items()]
        outcomes += [Outcome(case, "native", name) for name, case in _native(library, place, made, seed).items()]
        return Trip(library.name, seed, tuple(outcomes), tuple(beyond))


def _make(library: Library, seed: int, count: int, root: Path) -> tuple[list[str], list[tuple[str, str]]]:
    """(names of cases, draws beyond the library). The seeds of one run follow one another, which tables are drawn by."""
    first = random.Random(seed).randrange(1 << 40)
    made: list[str] = []
    beyond: list[tuple[str, str]] = []
    at = 0
    while len(made) < count and at < SPARE * count + 20:
        seeds = {f"s{at + i}": first + at + i for i in range(count - len(made))}
        at += len(seeds)
        library.make(root, seeds)
        for name in seeds:
            said = library.unable(root, name)
            if said is None:
                made.append(name)
            else:
                beyond.append((name, said))
                shutil.rmtree(root / library.name / name)
    return made, beyond


def _judged(root: Path, library: str, names: list[str]) -> dict[str, CaseOutcome]:
    if not names:
        return {}
    only = tuple(f"{library}/{name}" for name in names)
    report = conformance.run(conformance.Options(root, only))
    return {outcome.id.removeprefix(f"{library}/"): outcome for outcome in report.cases}


def _write(
    library: Library, place: Path, made: list[str], read: dict[str, CaseOutcome]
) -> tuple[list[str], dict[str, CaseOutcome]]:
    """(names of what was written, refusals); what was not read is not written."""
    scratch = place / "scratch"
    scratch.mkdir()
    (place / "written").mkdir()
    (place / "written" / "backbones").symlink_to(place / "made" / "backbones")
    written, refused = [], {}
    for name in made:
        if read[name].outcome == "refused":
            continue
        profile = read_profile(place / "made" / "backbones" / name)
        try:
            source, target = (place / stage / library.name / name for stage in ("made", "written"))
            writing.rewrite(source, target, profile, scratch)
            written.append(name)
        except AdapterError as error:
            refused[name] = CaseOutcome.refused(f"{library.name}/{name}", error)
        except Exception as error:  # one broken case must not hide the others
            refused[name] = CaseOutcome.failed(f"{library.name}/{name}", f"{type(error).__name__}: {error}")
    return written, refused


def _unloaded(library: Library, place: Path, written: list[str]) -> dict[str, CaseOutcome]:
    """Failures of what the library does not load, which are taken out of the list."""
    found = {}
    for name in list(written):
        said = library.unable(place / "written", name)
        if said is not None:
            found[name] = CaseOutcome.failed(f"{library.name}/{name}", f"the library does not load it: {said}")
            written.remove(name)
    return found


def _native(library: Library, place: Path, made: list[str], seed: int) -> dict[str, CaseOutcome]:
    """Outcomes of adapters that were made here; none where no case has a backbone for them."""
    hosts = [case for name in made if native.usable(case := place / "made" / library.name / name)]
    if not hosts:
        return {}
    ours = place / "native"
    ours.mkdir()
    (ours / "backbones").symlink_to(place / "made" / "backbones")
    names, found = native.make(library.name, hosts, place / "written", ours, seed)
    library.load(place / "written", names)
    found |= _unloaded(library, place, names)
    for name in names:
        shutil.copyfile(*(place / stage / library.name / name / writing.EXPECTED for stage in ("written", "native")))
    return found | _judged(ours, library.name, names)


def _return(library: Library, place: Path, written: list[str]) -> None:
    (place / "returned").mkdir()
    (place / "returned" / "backbones").symlink_to(place / "made" / "backbones")
    for name in written:
        folders = (place / stage / library.name / name for stage in ("made", "written", "returned"))
        writing.returned(*folders)
