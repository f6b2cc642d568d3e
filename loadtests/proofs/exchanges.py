"""A request and its whole answer, to be compared byte for byte with another one, and searched for other people's words."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import aiohttp
from yarl import URL

from loadtests.proofs.estates import Estate, Ids
from loadtests.proofs.prying import Ask, renamed

REQUEST_ID = "req_isolation"  # ours, and always the same, so that two answers can be equal
VOLATILE = frozenset({"date", "server-timing"})  # headers that tell when


@dataclass(frozen=True)
class Answer:
    """What came: the status, the headers but the volatile ones, and the body, as it is."""

    status: int
    headers: Mapping[str, str]
    body: str  # undecodable bytes as surrogates

    def written(self, ids: Ids, instead: Ids) -> str:
        """All of it as one text, one id written for the other."""
        text = json.dumps([self.status, sorted(self.headers.items())]) + self.body
        for old, new in renamed(ids, instead).items():
            text = text.replace(old, new)
        return text

    def leaked(self, said: str, others: Sequence[Estate]) -> list[str]:
        """Words of other tenants' that the answer holds and the request did not."""
        text = self.body + json.dumps(list(self.headers.items()))
        return [word for estate in others for word in estate.words if word in text and word not in said]


async def exchange(session: aiohttp.ClientSession, ask: Ask) -> Answer:
    """Send one request as it is written."""
    url = URL(f"{str(session._base_url).rstrip('/')}{ask.path}", encoded=True)  # noqa: SLF001 - there is no other way to it
    headers = {**ask.headers, "x-request-id": REQUEST_ID}
    async with session.request(ask.method, url, data=ask.body, headers=headers) as answer:
        body = (await answer.read()).decode(errors="surrogateescape")
        kept = {name.lower(): value for name, value in answer.headers.items() if name.lower() not in VOLATILE}
        return Answer(answer.status, kept, body)


def said(ask: Ask) -> str:
    """Everything that a request says."""
    return " ".join([ask.path, (ask.body or b"").decode(errors="replace"), *ask.headers.values()])
