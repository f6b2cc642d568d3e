from loadtests.__main__ import main
from loadtests.results.folder import write
from tests.loadtests.fake import sweep_run


def test_a_run_is_drawn_again_from_its_record_alone(tmp_path, capsys):
    write(tmp_path, sweep_run())
    assert main(["plot", str(tmp_path)]) == 0
    assert (tmp_path / "report.html").exists()
    assert (tmp_path / "load.png").exists()
    assert str(tmp_path / "load.png") in capsys.readouterr().out


def test_it_can_be_drawn_elsewhere(tmp_path):
    write(tmp_path, sweep_run())
    assert main(["plot", str(tmp_path / "run.json"), "--out", str(tmp_path / "other")]) == 0
    assert (tmp_path / "other" / "report.html").exists()
    assert not (tmp_path / "report.html").exists()


def test_where_there_is_no_run_it_says_so(tmp_path, capsys):
    assert main(["plot", str(tmp_path)]) == 2
    assert "error: " in capsys.readouterr().err
