import os
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from tests.e2e.service import free_port

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "serving.cli", "demo"]


def test_deploy_demo_takes_any_folder_to_start_from_and_hands_its_options_on():
    script = ROOT / "deploy" / "demo"
    assert os.access(script, os.X_OK)
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    assert script.read_text().splitlines()[-1] == 'exec .venv/bin/chorus demo "$@"'


@pytest.mark.ray
def test_a_killed_demo_is_followed_by_one_that_shows_the_same_and_ends(tmp_path):
    port = free_port()
    command = [*COMMAND, "--port", str(port), "--data", str(tmp_path / "data")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as first:
        told = []
        for line in first.stderr:
            told.append(line)
            if "Ctrl-C stops it" in line:
                break
        else:
            pytest.fail("".join(told))
        asked = {"inputs": "The soup was delicious.", "adapters": "sentiment"}
        answer = httpx2.post(f"http://127.0.0.1:{port}/v1/predict", json=asked, trust_env=False).json()
        assert answer["outputs"][0][0]["label"] == "positive"
        assert answer["target"]["base"]["id"] == "all-MiniLM-L6-v2"
        first.kill()
    second = subprocess.run([*command, "--once"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert second.returncode == 0, second.stderr
    told = [" ".join(line.split()) for line in second.stdout.splitlines()]
    for shown in (
        "sentiment@1 positive",
        "tagger@1 Marco PER Sunday DATE",
        "topic@1 food",
        "lang-velm@1+topic@1~velm@1",
    ):
        assert any(line.startswith(shown) for line in told)
    assert "23 rows in" in second.stdout
    right = {words[:2]: float(words[2]) for words in (tuple(line.split()) for line in told) if words[3:] == ("100",)}
    assert right["lang-velm+sentiment~velm", "velm"] > right["sentiment", "velm"] + 0.15
    assert right["sentiment", "plain"] > right["lang-velm+sentiment~velm", "velm"]
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(f"http://127.0.0.1:{port}/livez", trust_env=False)
