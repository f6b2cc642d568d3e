"""What the real library stored, asked of a running service: pushed by the command line, by 16 clients in one burst."""

import os
import random
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from adapters.composition import to_json
from tests.conformance.cases import Case, CaseRow, find
from tests.e2e.service import ROOT, Service, free_port

pytestmark = pytest.mark.ray

DATA = ROOT / "tests" / "conformance" / "data"
CASES = ("adapterhub/mixed__all_methods", "adapterhub/mixed__madx_stacks", "adapterhub/embedding__madx")
CLIENTS, ROUNDS = 16, 3
GATED = {"m_unipelt"}  # the library's gate averages over padding: only rows without any can be compared
NO_SCORES = {"function_to_apply": "none"}


@dataclass(frozen=True)
class Asked:
    """One request, and the stored outputs that its answer must equal."""

    case: Case
    row: CaseRow
    adapters: list[str]
    embedding: str | None


def name(case: Case, artefact: str) -> str:
    return f"{case.id.rsplit('/', 1)[1]}/{artefact}"


def push(service: Service, folder: Path, called: str) -> None:
    environ = {**os.environ, "CHORUS_HOST": service.url}
    command = [sys.executable, "-m", "serving.cli", "push", str(folder), called]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return [case for case in find(DATA) if case.id in CASES]


@pytest.fixture(scope="module", params=["bert-tiny", "xlm-roberta-tiny"])
def service(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    backbone = DATA / "backbones" / request.param
    running = Service(backbone, folder / "data", engines=1, gateways=1, port=free_port())
    try:
        running.start()
        yield running
    finally:
        if running.process is not None and running.process.poll() is None:
            running.stop()


@pytest.fixture(scope="module")
def asked(service, cases) -> list[Asked]:
    """Every row of the backbone's cases, everything it names published."""
    found = []
    for case in cases:
        if case.backbone != service.backbone.name:
            continue
        for artefact, folder in case.artefacts().items():
            push(service, folder, name(case, artefact))
        held = case.raw.get("embedding")
        if held:
            push(service, case.folder / held["path"], name(case, held["name"]))
        for row in case.rows(pad_token_id=1):
            written = [child["name"] for child in _leaves(row)]
            adapters = [name(case, artefact) for artefact in written]
            found.append(Asked(case, row, adapters, name(case, held["name"]) if held else None))
    return found


def _leaves(row: CaseRow) -> list[dict[str, str]]:
    stack = to_json(row.arranged.composition)["stack"]
    return [{"name": row.arranged.names[stand_in][1]} for stand_in in stack]


def body(one: Asked, **more) -> dict:
    return {"inputs": one.row.text, "adapters": one.adapters, "embedding": one.embedding, "timeout_ms": 60000, **more}


def close(one: Asked, got: torch.Tensor, want: torch.Tensor) -> bool:
    atol, rtol = one.case.tolerance
    return got.shape == want.shape and bool(((got - want).abs() <= atol + rtol * want.abs()).all())


def check(client, one: Asked) -> int:
    """Ask for states and for the head's answer; the number of stored outputs that were compared."""
    answer = client.post("/v1/predict", json=body(one, task="feature-extraction"))
    assert answer.status_code == 200, answer.text
    states = torch.tensor(answer.json()["outputs"][0])
    answer = client.post("/v1/predict", json=body(one, parameters={**NO_SCORES, **_top_k(one)}))
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert [item["name"] for item in told["target"]["adapters"]] == one.adapters
    if GATED & {part.rsplit("/", 1)[1] for part in one.adapters} and not bool(one.row.mask.all()):
        return 0
    compared = 0
    for expected in one.row.expected:
        want = expected.values.float()
        want = want[one.row.mask] if want.dim() == 2 and len(want) == len(one.row.mask) else want
        if expected.output == "hidden_state":
            assert close(one, states, want), (one.adapters, expected.name)
        elif told["task"] == "text-classification":
            assert close(one, torch.tensor([entry["score"] for entry in told["outputs"][0]]), want), one.adapters
        elif told["task"] == "question-answering":
            assert close(one, torch.tensor(told["outputs"][0][0][expected.output]), want.flatten()), one.adapters
        else:
            entities = told["outputs"][0]
            best = want.max(-1).values[[entity["index"] for entity in entities]]
            assert close(one, torch.tensor([entity["score"] for entity in entities]), best), one.adapters
        compared += 1
    return compared


def _top_k(one: Asked) -> dict:
    """Labels in the head's own order."""
    classifies = any(expected.output == "logits" and expected.values.dim() == 1 for expected in one.row.expected)
    return {"top_k": None} if classifies else {}


def test_every_row_equals_the_stored_outputs_whoever_asks_at_the_same_time(service, asked):
    start, compared = threading.Barrier(CLIENTS), []

    def run(number: int) -> None:
        rng = random.Random(number)
        with service.client() as client:
            start.wait(60)
            for _ in range(ROUNDS):
                drawn = rng.sample(asked, len(asked))
                compared.extend((one.case.id, check(client, one)) for one in drawn)

    with ThreadPoolExecutor(CLIENTS) as pool:
        for done in [pool.submit(run, number) for number in range(CLIENTS)]:
            done.result()
    of_backbone = {case for case in CASES if case in {one.case.id for one in asked}}
    assert {case for case, count in compared if count} == of_backbone
    assert len(compared) == CLIENTS * ROUNDS * len(asked)


def counted(service) -> tuple[float, float]:
    """Rows and forward passes of all engines since they started."""
    with service.client() as client:
        lines = client.get("/metrics").text.splitlines()
    values = dict.fromkeys(("chorus_rows_total", "chorus_batches_total"), 0.0)
    for line in lines:
        for counter in values:
            if line.startswith(counter):
                values[counter] += float(line.rsplit(" ", 1)[1])
    rows, passes = values.values()
    return rows, passes


def test_rows_of_different_adapters_share_forward_passes(service, asked):
    """Each client sends its rows at once, so that how fast clients get to run does not decide what meets."""
    start = threading.Barrier(CLIENTS)
    (rows, passes) = counted(service)

    def run(number: int) -> None:
        one = asked[number % len(asked)]
        request = body(one, task="feature-extraction")
        with service.client() as client:
            start.wait(60)
            answer = client.post("/v1/predict", json={**request, "inputs": [request["inputs"]] * 8})
        assert answer.status_code == 200, answer.text

    with ThreadPoolExecutor(CLIENTS) as pool:
        for done in [pool.submit(run, number) for number in range(CLIENTS)]:
            done.result()
    after = counted(service)
    assert after[0] - rows == 8 * CLIENTS
    assert after[1] - passes < 8 * CLIENTS / 4
