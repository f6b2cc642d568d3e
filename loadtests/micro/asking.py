"""A service that is asked over HTTP: with requests of one text or of several, as fast as it can, or now and then."""

import asyncio
import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from adapters.architectures.profile import read_profile
from loadtests.micro.inprocess import HEAD_START_S
from loadtests.micro.mixed import lengths
from loadtests.proofs.calls import RAW, publish
from loadtests.proofs.evidence import percentile
from loadtests.proofs.fingerprints import Fingerprint, Forge
from loadtests.proofs.firing import Volley, evenly, fire
from loadtests.proofs.stage import Stage, StageFailed, staged
from loadtests.proofs.volley import Plan, Question
from loadtests.proofs.workload import sentences

NAME, TEXTS = "front", 8
QUESTIONS = 8  # different ones, of `TEXTS` texts each
TIMEOUT_MS = 30_000
OFF = {"float32": 1e-4, "bfloat16": 0.5}  # how far a logit may be from that of the row alone in float32


@dataclass(frozen=True, eq=False)
class Work:
    """An adapter over a backbone and texts for it, with what each has to be answered."""

    backbone: Path
    dtype: str
    forge: Forge
    made: Fingerprint

    @classmethod
    def of(cls, backbone: Path, dtype: str, seed: int) -> "Work":
        """Lengths are log-normal, with a mean of 32 tokens, and as long as the backbone reads at most."""
        longest, count = read_profile(backbone).geometry.max_tokens, QUESTIONS * TEXTS
        words = [min(int(tokens), longest) - 2 for tokens in lengths(count, seed)]  # and two special tokens
        forge = Forge(backbone, [sentences(backbone, 1, words[i], seed + i)[0] for i in range(count)], seed)
        return cls(backbone, dtype, forge, forge.make(NAME))

    def groups(self, texts: int) -> list[range]:
        """All texts, so many to a request."""
        return [range(begin, begin + texts) for begin in range(0, len(self.forge.texts), texts)]

    def questions(self, texts: int) -> tuple[Question, ...]:
        """Requests of so many texts, with their right answers."""
        found = []
        for group in self.groups(texts):
            body = {
                "inputs": [self.forge.texts[i] for i in group],
                "adapters": [NAME],
                "parameters": RAW,
                "timeout_ms": TIMEOUT_MS,
            }
            logits = tuple(tuple(map(float, self.made.logits[i])) for i in group)
            found.append(Question("/v1/predict", "", json.dumps(body), self.made.digest, logits))
        return tuple(found)


@dataclass(frozen=True, eq=False)
class Asked:
    """A running service that has the adapter, and the core on which it is asked."""

    stage: Stage
    work: Work
    core: int

    @classmethod
    def started(cls, work: Work, folder: Path, cores: Sequence[int], program: str, ending: ExitStack) -> "Asked":
        """A service on these cores with an engine for each; raises `StageFailed`."""
        options, on = ("--dtype", work.dtype), frozenset(cores)
        stage = Stage(work.backbone, folder, engines=len(cores), options=options, cores=on, program=program)
        ending.enter_context(staged(stage))
        asyncio.run(_published(stage, work.made))
        return cls(stage, work, max(cores))

    def rows(self, texts: int, closed: int, seconds: float) -> float:
        """Rows answered in a second with so many requests under way; raises `StageFailed` where an answer is wrong."""
        questions = self.work.questions(texts)
        each = tuple(len(range(i, closed, len(questions))) for i in range(len(questions)))
        volley = self._fired(Plan(self.stage.port, questions, closed=each, seconds=seconds))
        return counted(volley, seconds) * texts

    def alone(self, rate: float, seconds: float) -> tuple[float, float]:
        """Milliseconds that a lone short request takes beside its step, and in it (medians)."""
        plan = Plan(self.stage.port, self.work.questions(1)[:1], at=tuple(evenly(rate, seconds, (0,))))
        shots = self._fired(plan).shots
        beside = percentile([1e3 * shot.seconds - shot.forward_ms for shot in shots], 0.5)
        return beside, percentile([shot.forward_ms for shot in shots], 0.5)

    def _fired(self, plan: Plan) -> Volley:
        volley = asyncio.run(fire(self.stage, replace(plan, core=self.core, tolerance=OFF[self.work.dtype])))
        faults = volley.told()["faults"]
        if faults:
            raise StageFailed(f"not every answer was right: {faults}")
        return volley


def counted(volley: Volley, seconds: float) -> float:
    """Requests answered in a second, without the head start."""
    begin, end = volley.start + HEAD_START_S, volley.start + seconds
    return sum(begin <= shot.done <= end for shot in volley.shots) / (end - begin)


async def _published(stage: Stage, made: Fingerprint) -> None:
    async with stage.session() as session:
        told = await publish(session, NAME, made.data)
        if not told.ok:
            raise StageFailed(f"{NAME}: {told.why}")
