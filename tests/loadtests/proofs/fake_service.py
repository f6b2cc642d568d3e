"""A service of one process that keeps names in dictionaries, and answers from logits that it is told; with faults to switch on."""

import asyncio
import hashlib
from collections import Counter

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer

REFUSALS = {503: {"Retry-After": "1"}}


class FakeService:
    """`logits` maps a digest to what its package answers to each of `texts`; whose it is does not matter here."""

    def __init__(self, texts, logits=None):
        self.texts = tuple(texts)
        self.logits = dict(logits or {})
        self.names = {}  # name -> version -> bytes
        self.last = Counter()
        self.prod = {}
        self.calls = []  # method and path of everything but predictions
        self.refused = {}  # what kind of call -> (status, code)
        self.spoil = lambda data: data
        self.loaded = 0  # bytes

    def learn(self, made):
        """What a fingerprint answers."""
        self.logits[made.digest] = made.logits
        return made

    def app(self):
        app = web.Application(client_max_size=1 << 26)
        app.router.add_post("/v1/predict", self.predict)
        app.router.add_get("/v1/residency", self.residency)
        app.router.add_route("*", "/v1/adapters/{rest:.+}", self.adapters)
        return app

    async def residency(self, _):
        return web.json_response({"replicas": [{"counters": {"bytes_loaded_device": self.loaded}}] * 2})

    async def predict(self, request):
        asked = await request.json()
        if refusal := self.refusal("predict"):
            return refusal
        name, _, selector = asked["adapters"][0].partition("@")
        held = self.names.get(name, {})
        default = self.prod.get(name, max(held, default=0))
        version = int(selector) if selector.isdigit() else default
        if version not in held:
            return refused(404, "adapter_not_found")
        logits = self.logits[digest_of(held[version])]
        rows = [logits[self.texts.index(text)] for text in asked["inputs"]]
        outputs = [[{"label": str(k), "score": float(score)} for k, score in enumerate(row)] for row in rows]
        target = {"adapters": [{"name": name, "version": version}]}
        return web.json_response({"outputs": outputs, "target": target, "residency": {name: "device"}})

    async def adapters(self, request):
        rest, method = request.match_info["rest"], request.method
        data = await request.read()
        self.calls.append(f"{method} {rest}")
        if "Authorization" in request.headers:  # there are no keys here
            return refused(401, "unauthenticated")
        if "/aliases/" in rest:
            return self.alias(method, rest.partition("/aliases/")[0], await request.json() if data else {})
        if ":" in rest:
            return self.act(method, *rest.rsplit(":", 1))
        if method == "PUT":
            return self.publish(rest, data, promote=request.query.get("promote") == "true")
        return self.delete(rest) if method == "DELETE" else self.show(rest)

    def publish(self, name, data, *, promote):
        if refusal := self.refusal("publish"):
            return refusal
        held = self.names.setdefault(name, {})
        version = next((number for number, known in held.items() if known == data), 0)
        created = not version
        if created:
            self.last[name] += 1
            version = self.last[name]
            held[version] = data
        if promote:
            self.prod[name] = version
        answer = {"name": name, "version": version, "digest": digest_of(data)}
        return web.json_response(answer, status=201 if created else 200)

    def alias(self, method, name, body):
        if refusal := self.refusal("alias"):
            return refusal
        if method == "DELETE":
            del self.prod[name]
        elif body["version"] in self.names[name]:
            self.prod[name] = body["version"]
        else:
            return refused(404, "adapter_not_found")
        return web.json_response({})

    def act(self, method, name, verb):
        name, _, version = name.partition("@")
        if refusal := self.refusal(verb):
            return refusal
        if verb == "package":
            number = int(version) if version else self.prod.get(name, max(self.names[name]))
            return web.Response(body=self.spoil(self.names[name][number]))
        return web.json_response({}, status=202)

    def delete(self, rest):
        name, _, version = rest.partition("@")
        if not version and name in self.prod:
            return refused(409, "held")
        if version and self.prod.get(name) == int(version):
            return refused(409, "held")
        if version:
            del self.names[name][int(version)]
        else:
            del self.names[name]
        return web.Response(status=204)

    def show(self, name):
        if name not in self.names:
            return refused(404, "adapter_not_found")
        versions = [{"version": number, "digest": digest_of(data)} for number, data in self.names[name].items()]
        return web.json_response({"versions": versions})

    def refusal(self, kind):
        return refused(*self.refused[kind]) if kind in self.refused else None


def refused(status, code):
    return web.json_response({"code": code}, status=status, headers=REFUSALS.get(status))


def digest_of(data):
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def asked(fake, scenario):
    """What `scenario(session)` returns while the fake serves."""

    async def run():
        server = TestServer(fake.app())
        await server.start_server()
        try:
            async with aiohttp.ClientSession(str(server.make_url(""))) as session:
                return await asyncio.wait_for(scenario(session), 60)
        finally:
            await server.close()

    return asyncio.run(run())
