import subprocess
import sys

from loadtests.__main__ import main
from loadtests.client.crew import ROOT
from loadtests.scenarios.figures import FIGURES
from loadtests.scenarios.reading import names


def test_every_scenario_has_one_line(capsys):
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(names())
    assert all(len(line) < 160 for line in lines)


def test_every_figure_has_one_line(capsys):
    assert main(["list", "--figures"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(FIGURES)


def test_to_list_brings_no_torch():
    code = "import sys, loadtests.__main__ as m; m.main(['list']); assert not {'torch', 'matplotlib', 'aiohttp'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, timeout=120)
