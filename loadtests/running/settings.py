"""What one run was asked for on the command line."""

import argparse
import shlex
import time
from dataclasses import dataclass
from pathlib import Path

from loadtests.scenarios.reading import find, read
from loadtests.scenarios.values import Scenario
from loadtests.served.backbones import MINILM, backbone
from loadtests.served.own import Own
from loadtests.served.target import TOLERANCES, BadTarget

OUT = Path("data") / "loadtests"


@dataclass(frozen=True)
class Settings:
    """One run. Either `own` says which service to start, or `url` where one answers.

    `backbone` is the folder of the model where it is at hand: then answers are compared with what the library computes.
    """

    name: str
    scenario: Scenario
    out: Path
    seed: int
    command: str
    own: Own | None
    url: str | None
    key_file: Path | None
    backbone: Path | None
    clients: int
    tolerance: float
    leave: bool = False  # what was published into a running service


def settings_of(given: argparse.Namespace, command: str, scratch: Path) -> Settings:
    """What the command line asks for; raises `BadScenario`, `BadTarget`, `NoBackbone`."""
    path = find(given.scenario)
    scenario = read(path, given.set)
    folder, own = None, None
    if given.url is None:
        folder = backbone(given.backbone or MINILM, scratch)
        words = tuple(shlex.split(given.serve))
        own = Own(folder, given.dtype, given.engines, given.gateways, given.threads, words)
    elif given.backbone is not None:
        folder = backbone(given.backbone, scratch)
    if given.clients < 1:
        raise BadTarget("--clients: one at least")
    out = given.out or OUT / f"{path.stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    if out.exists() and any(out.iterdir()):
        raise BadTarget(f"--out {out}: it is there, and not empty: give a new folder")
    return Settings(
        name=path.stem,
        scenario=scenario,
        out=out,
        seed=given.seed,
        command=command,
        own=own,
        url=given.url,
        key_file=given.key_file,
        backbone=folder,
        clients=given.clients,
        tolerance=TOLERANCES[given.dtype] if given.tolerance is None else given.tolerance,
        leave=given.leave,
    )
