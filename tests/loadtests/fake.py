"""A service of one thread that answers as the real one does, honestly or not; and values of runs that never were."""

import asyncio
import json
import threading
import zlib

import numpy as np
from aiohttp import web

from adapters.formats import native
from loadtests.client.plan import RIGHT, Published, Sample
from loadtests.results.judging import checks_of, figures_of
from loadtests.results.record import FORMAT, Client, Run, Take
from loadtests.results.summing import by_tenant, sums_of
from loadtests.results.windows import blocks_of, phases_of, windows_of
from loadtests.scenarios.reading import scenario_of
from loadtests.scenarios.steps import steps_of
from loadtests.served.counters import Counted

METRICS = """# TYPE chorus_batches_total counter
chorus_batches_total{{replica="a"}} {n}
# TYPE chorus_cache_hits_total counter
chorus_cache_hits_total{{tier="device",replica="a"}} {n}
"""


class FakeService:
    """Published packages; logits follow from the package's weights and the text, and its biases are added to them."""

    def __init__(self, profile):
        self.profile = profile
        self.packages = {}  # digest -> (labels, biases, seed)
        self.names = {}  # name -> digests
        self.deleted = []
        self.keys = set()
        self.predictions = 0
        self.honest = 10**9  # predictions that are answered honestly, before `lie` comes in
        self.lie = lambda answer: answer
        self.acknowledge = lambda answer: answer
        self.alike = False
        self.metrics_for = None  # a key
        self.budgets = None  # of its only engine; None is a service whose residency nobody may read

    def app(self):
        app = web.Application(client_max_size=1 << 27)
        app.router.add_get("/v1/limits", self.limits)
        app.router.add_get("/metrics", self.metrics)
        app.router.add_get("/v1/residency", self.residency)
        app.router.add_put("/v1/adapters/{name}", self.publish)
        app.router.add_delete("/v1/adapters/{name}", self.delete)
        app.router.add_post("/v1/predict", self.predict)
        return app

    async def limits(self, _):
        return web.json_response({"profile": self.profile.to_json()})

    async def metrics(self, request):
        if request.headers.get("Authorization") != f"Bearer {self.metrics_for}":
            return web.json_response({"code": "forbidden"}, status=403)
        return web.Response(text=METRICS.format(n=self.predictions))

    async def residency(self, _):
        if self.budgets is None:
            return web.json_response({"code": "forbidden"}, status=403)
        return web.json_response({"replicas": [{"budgets": self.budgets}]})

    async def publish(self, request):
        data = await request.read()
        package, digest = native.read(data), native.digest(data)
        biases = package.tensors["head/0/bias"].numpy()
        weights = package.tensors["head/0/weight"].numpy().tobytes()
        self.packages[digest] = (package.manifest.head.labels, biases, zlib.crc32(weights))
        self.names.setdefault(request.match_info["name"], set()).add(digest)
        return web.json_response(self.acknowledge({"version": 1, "digest": digest}), status=201)

    async def delete(self, request):
        self.deleted.append(request.match_info["name"])
        return web.Response(status=204)

    async def predict(self, request):
        self.keys.add(request.headers.get("Authorization"))
        asked = await request.json()
        self.predictions += 1
        (reference,) = asked["adapters"]
        answer = self.answer(*reference.split("@"), asked["inputs"])
        if self.predictions > self.honest:
            answer = self.lie(answer)
        return answer if isinstance(answer, web.Response) else web.json_response(answer)

    def answer(self, name, digest, texts):
        labels, biases, seed = self.packages[digest]
        outputs = []
        for text in texts:
            rng = np.random.default_rng([0 if self.alike else seed, zlib.crc32(text.encode())])
            logits = rng.normal(size=len(labels)) + (0 if self.alike else biases)
            outputs.append([{"label": k, "score": float(x)} for k, x in zip(labels, logits, strict=True)])
        words = sum(len(text.split()) + 2 for text in texts)
        return {
            "outputs": outputs,
            "target": {"adapters": [{"name": name, "version": 1, "digest": digest}]},
            "residency": {name: "device" if self.predictions % 3 else "host"},
            "usage": {"prompt_tokens": words},
            "timing_ms": {"queue": 1.0, "load": 0.0, "forward": 2.0, "total": 4.0},
        }


class Served:
    """The fake, in a thread of its own, as a context; `url` is where it answers."""

    def __init__(self, fake):
        self.fake = fake
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self):
        self._thread.start()
        self._runner = web.AppRunner(self.fake.app())
        self._do(self._runner.setup())
        self._do(web.TCPSite(self._runner, "127.0.0.1", 0).start())
        self.url = "http://{}:{}".format(*self._runner.addresses[0][:2])
        return self

    def __exit__(self, *_):
        self._do(self._runner.cleanup())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)


def sample(intended=0.0, wait=0.01, verdict=RIGHT, tenant="default", adapter="a", tiers=("device",), **changes):
    told = {
        "intended": intended, "sent": intended, "done": intended + wait, "status": 200, "verdict": verdict, "detail": "",
        "tenant": tenant, "adapter": adapter, "tiers": tiers, "rows": 1, "tokens": 10,
        "queue_ms": 1.0, "load_ms": 0.0, "forward_ms": 2.0,
    }  # fmt: skip
    return Sample(**(told | changes))


def steady(rate, seconds, wait=0.01, **changes):
    """A clock's requests, all answered after the same wait (or `wait(intended)`)."""
    waits = wait if callable(wait) else lambda _: wait
    return [sample(n / rate, waits(n / rate), **changes) for n in range(int(rate * seconds))]


CLIENT = Client(1, 1.0, 2.0, 1.5, 3.0, 4, 0.1, 1.2, 1.5)
COUNTED = Counted(
    10, 4.0, 100.0, 3.0, 20.0, 5.0,
    {"device": 0.8, "host": 0.5, "disk": None}, {"device": 3.0, "host": 1.0, "disk": 1.0},
    {"device": 9.0, "host": 9.0, "disk": 9.0}, {"device": 0.0, "host": 0.0, "disk": 0.0},
)  # fmt: skip


def take_of(step, samples, number=0, rate=None, published=(), counted=COUNTED, client=CLIENT):
    times = step.scenario.time
    start, end = times.warmup_s, times.warmup_s + times.seconds
    verdicts = {}
    for one in samples:
        verdicts[one.verdict] = verdicts.get(one.verdict, 0) + 1
    return Take(
        value=step.value, round=number, rate=rate, peak=None, warmup_s=start,
        sums=sums_of(samples, start, end, curve=True), all_verdicts=verdicts,
        tenants={name: sums_of(own, start, end) for name, own in by_tenant(samples).items()},
        phases=phases_of(samples, times), windows=windows_of(samples, end), blocks=blocks_of(samples, times),
        published=tuple(published), counted=counted, client=client,
    )  # fmt: skip


def published(intended, wait=0.05, **changes):
    told = {
        "intended": intended, "sent": intended, "done": intended + wait, "status": 201, "answered": intended + 2 * wait,
        "verdict": RIGHT, "detail": "", "bytes": 3_000_000,
    }  # fmt: skip
    return Published(**(told | changes))


def scenario(**changes):
    told = {"about": "a test", "arrivals": {"rate": 50}, "time": {"seconds": 10.0, "warmup_s": 2.0}}
    return scenario_of(json.loads(json.dumps(told | changes)), "test.toml")


def run_of(held, takes, **changes):
    figures = figures_of(held, takes)
    told = {
        "format": FORMAT, "name": "test", "scenario": held, "command": "python -m loadtests run test", "seed": 0,
        "began": "2026-01-01T00:00:00+00:00", "seconds": 12.0,
        "environment": {"processor": "a processor", "cores": 2},
        "service": {"own": True, "id": "tiny", "dtype": "float32", "engines": 1},
        "population": {"adapters": 3, "methods": ["lora"]},
        "takes": tuple(takes), "figures": figures, "checks": checks_of(held, figures), "faults": (), "notes": (),
    }  # fmt: skip
    return Run(**(told | changes))


def plain_run(wait=0.01):
    held = scenario()
    (step,) = steps_of(held)
    return run_of(held, [take_of(step, steady(50, 12, wait), rate=50.0)])


def sweep_run(over="load", values=(0.5, 1.0, 1.5), rounds=1, capacity=60.0):
    """Steps whose load grows with their number, and which answer so much at most."""
    held = scenario(sweep={"over": over, "values": list(values)})
    takes = []
    for number in range(rounds):
        for place, step in enumerate(steps_of(held)):
            rate = 30.0 * (place + 1)
            wait = max(0.01, rate / capacity - 0.9) if capacity else 0.01
            few = [one for n, one in enumerate(steady(rate, 12, wait)) if n % 10 < 10 * min(1.0, capacity / rate)]
            beyond = max(0.0, rate - capacity)
            shed = [sample(n / beyond, 0.002, "refused", detail="503 busy") for n in range(int(12 * beyond))]
            takes.append(take_of(step, few + shed, number, rate=rate))
    return run_of(held, takes)


def phased_run():
    """Two tenants; in busy phases the second one asks as well, versions are published, and waits are double."""
    held = scenario(
        tenants=[{"name": "calm"}, {"name": "loud", "only": "busy"}],
        time={"seconds": 12.0, "warmup_s": 2.0, "phase_s": 3.0},
        publishing={"per_s": 2.0},
    )
    (step,) = steps_of(held)

    def busy(at):
        return at >= 2 and int((at - 2) / 3) % 2 == 1

    calm = steady(20, 14, lambda at: 0.02 if busy(at) else 0.01, tenant="calm")
    loud = [one for one in steady(40, 14, 0.03, tenant="loud") if busy(one.intended)]
    hot = [published(at / 2 + 0.25) for at in range(28) if busy(at / 2 + 0.25)]
    return run_of(held, [take_of(step, calm + loud, rate=60.0, published=hot)])
