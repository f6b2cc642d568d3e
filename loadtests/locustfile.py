"""For people who prefer Locust: `locust -f loadtests/locustfile.py --host http://127.0.0.1:8000` (extra `locust`).

Users ask the classification adapters that the service lists, by Zipf's law, one to four texts at a time. CHORUS_API_KEY is a
key of scope `predict`, CHORUS_ADAPTERS names the adapters instead (commas between), CHORUS_ZIPF_S is the law's exponent (1).
Locust is a closed loop: its users wait for answers, so that a service that stalls is asked less. `python -m loadtests run` is not.
"""

import itertools
import json
import os
import random
from typing import Any

from locust import HttpUser, between, task

TEXTS = (
    "The ferry was late again, and nobody said why.",
    "A quiet morning in the harbour, with fresh bread and strong coffee.",
    "Twelve letters came back unopened before the winter; the thirteenth was answered within a day.",
    "Never again.",
)


class Caller(HttpUser):  # type: ignore[misc]
    """One user, who thinks for a moment between two requests."""

    wait_time = between(0.05, 0.5)

    def on_start(self) -> None:
        """Find out whom to ask."""
        key = os.environ.get("CHORUS_API_KEY")
        self.headers = {"Authorization": f"Bearer {key}"} if key else {}
        named = os.environ.get("CHORUS_ADAPTERS", "")
        self.adapters = [name for name in named.split(",") if name] or self.listed()
        if not self.adapters:
            raise RuntimeError(
                "the service lists no classification adapters: publish some, or name them in CHORUS_ADAPTERS"
            )
        s = float(os.environ.get("CHORUS_ZIPF_S", "1"))
        self.weights = list(itertools.accumulate(rank**-s for rank in range(1, len(self.adapters) + 1)))

    def listed(self) -> list[str]:
        """The adapters that classify texts, of all pages of the list."""
        found: list[str] = []
        after: str | None = ""
        while after is not None:
            query = {"after": after} if after else {}
            answer = self.client.get("/v1/adapters", params=query, headers=self.headers, name="list")
            answer.raise_for_status()
            page = answer.json()
            found += [entry["name"] for entry in page["items"] if is_classifier(entry)]
            after = page["next"]
        return found

    @task  # type: ignore[untyped-decorator]
    def predict(self) -> None:
        """One request; an answer by another adapter, or to fewer texts, is a failure."""
        (adapter,) = random.choices(self.adapters, cum_weights=self.weights)
        texts = random.choices(TEXTS, k=random.randint(1, 4))
        asked = {"inputs": texts, "adapters": [adapter]}
        with self.client.post(
            "/v1/predict", json=asked, headers=self.headers, name="predict", catch_response=True
        ) as answer:
            if wrong := fault(answer.status_code, answer.text, adapter, len(texts)):
                answer.failure(wrong)


def is_classifier(entry: dict[str, Any]) -> bool:
    """Whether what the name means now classifies texts."""
    return (entry["current"] or {}).get("task") == "text-classification"


def fault(status: int, body: str, adapter: str, texts: int) -> str:
    """What is wrong with an answer, or nothing."""
    try:
        told = json.loads(body)
    except ValueError:
        return f"{status}, no JSON"
    if status != 200:
        return f"{status} {told.get('code', '')}"
    if told["target"]["adapters"][-1]["name"] != adapter:
        return f"answered by {told['target']['adapters'][-1]['name']}, not {adapter}"
    return "" if len(told["outputs"]) == texts else f"{len(told['outputs'])} answers to {texts} texts"
