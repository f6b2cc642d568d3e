"""Before the load: the adapters, the texts, and what every adapter answers to each of its texts."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from adapters.architectures.profile import BackboneProfile
from loadtests.client.plan import Known
from loadtests.running.settings import Settings
from loadtests.running.showing import Show
from loadtests.scenarios.steps import steps_of
from loadtests.scenarios.values import Adapters
from loadtests.served.api import Api
from loadtests.served.backbones import measure
from loadtests.served.hot import make_hot
from loadtests.served.population import COMMON, Library, Made, known, make, nearest
from loadtests.traffic.texts import WORDS, Pool, Tokens, make_pool

COMPUTED, ASKED = "computed by the library", "asked alone before the load"


class NotPrepared(Exception):
    """The run can not begin; the message says why."""


@dataclass(frozen=True)
class Population:
    """All that is known before the load. `hot` is what copies are published of beside it."""

    made: tuple[Made, ...]
    known: tuple[Known, ...]
    pool: Pool
    tokens: Tokens
    how: str
    nearest: float
    hot: tuple[Made, Known] | None
    slot_bytes: float | None

    @property
    def packages(self) -> tuple[Made, ...]:
        """All that has to be published before the load."""
        return self.made if self.hot is None else (*self.made, self.hot[0])

    def of(self, tenant: int, adapter: int) -> Known:
        """One adapter of one tenant."""
        each = len(self.known) // (1 + max(one.tenant for one in self.known))
        return self.known[tenant * each + adapter]


def most(settings: Settings) -> Adapters:
    """The adapters of the step that has most."""
    return max((step.scenario.adapters for step in steps_of(settings.scenario)), key=lambda wanted: wanted.count)


def computed(settings: Settings, backbone: Path, folder: Path, show: Show) -> Population:
    """Everything from the backbone's own folder, without a service. Raises `TooAlike`."""
    library = Library(backbone)
    tokens = measure(backbone, library.profile.geometry.max_tokens)
    pool = make_pool(settings.scenario.requests.lengths, tokens, settings.seed)
    made, hot = _made(settings, library.profile, folder, show)
    show.begin("computing what they answer", len(made))
    answers, common = library.compute(made, pool.texts, show.at)
    held = None
    if hot is not None:
        (one,), _ = library.compute((hot,), pool.texts, lambda *_: None)
        held = (hot, one)
    dtype = "float32" if settings.own is None else settings.own.dtype
    least = nearest(common, settings.tolerance)
    return Population(made, answers, pool, tokens, COMPUTED, least, held, library.slot_bytes(made, dtype))


async def asked(settings: Settings, api: Api, folder: Path, show: Show) -> Population:
    """Everything from the service, whose backbone is not at hand: each adapter is asked while nothing else runs."""
    profile = await api.profile()
    made, hot = _made(settings, profile, folder, show)
    await publish(api, (*made, *(() if hot is None else (hot,))), show)
    tokens = await _measured(api, made[0], profile.geometry.max_tokens)
    pool = make_pool(settings.scenario.requests.lengths, tokens, settings.seed)
    show.begin("asking each alone", len(made))
    answers, common = [], []
    for number, one in enumerate(made):
        logits = await _alone(api, one, (*one.texts, COMMON), pool.texts)
        answers.append(known(one, logits[:-1]))
        common.append(logits[-1])
        show.at(number + 1)
    held = None if hot is None else (hot, known(hot, await _alone(api, hot, hot.texts, pool.texts)))
    least = nearest(np.array(common), settings.tolerance)
    return Population(made, tuple(answers), pool, tokens, ASKED, least, held, None)


async def publish(api: Api, made: Sequence[Made], show: Show) -> None:
    """Publish all; raises `ServiceFailed`."""
    show.begin("publishing", len(made))
    await api.publish([(one.tenant, one.name, one.digest, one.path) for one in made], show.at)


def _made(
    settings: Settings, profile: BackboneProfile, folder: Path, show: Show
) -> tuple[tuple[Made, ...], Made | None]:
    wanted, scenario = most(settings), settings.scenario
    show.begin("making adapters", wanted.count * len(scenario.tenants))
    made = make(profile, wanted, scenario.tenants, settings.seed, folder, show.at)
    hot = None
    if scenario.publishing is not None:
        hot = make_hot(profile, scenario.publishing, settings.seed, folder)
    return made, hot


async def _measured(api: Api, one: Made, longest: int) -> Tokens:
    """What the served tokenizer makes of our words, from what the service says of each."""
    first = WORDS[0]
    found = dict[str, int]()
    for text in (first, *(f"{first} {word}" for word in WORDS)):
        _, told = await api.answers(one.tenant, one.name, one.digest, [text])
        found[text] = int(told["usage"]["prompt_tokens"])
    return Tokens.of(found.__getitem__, longest)


async def _alone(api: Api, one: Made, numbers: Sequence[int], texts: Sequence[str]) -> list[list[float]]:
    logits, told = await api.answers(one.tenant, one.name, one.digest, [texts[number] for number in numbers])
    digest = told["target"]["adapters"][-1]["digest"]
    if digest != one.digest:
        raise NotPrepared(f"{one.name} alone: answered by {digest}, not {one.digest}")
    return logits
