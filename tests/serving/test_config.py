from pathlib import Path

import pytest

from serving.config import ServiceSettings, parse_size
from serving.errors import BadRequest


@pytest.mark.parametrize(
    ("text", "size"), [("0", 0), ("12", 12), ("1KiB", 1024), ("1.5 MiB", 3 << 19), ("2gb", 2 * 10**9), (" 7B ", 7)]
)
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MiB", "-1", "1TiB", "1 2", "1e3"])
def test_what_is_no_size_is_refused_naming_the_units(text):
    with pytest.raises(BadRequest, match="MiB"):
        parse_size(text)


def test_the_registry_is_sqlite_in_the_data_folder_unless_a_url_is_given(tmp_path):
    settings = ServiceSettings(Path("model"), tmp_path)
    assert settings.sql_url == f"sqlite:///{tmp_path / 'registry.sqlite'}"
    assert ServiceSettings(Path("model"), tmp_path, database_url="postgresql://x").sql_url == "postgresql://x"


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.0.0.2", True),
        ("localhost", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("h", False),
    ],
)
def test_loopback_is_told_from_the_host(host, loopback):
    assert ServiceSettings(Path("m"), Path("d"), host=host).loopback is loopback


@pytest.mark.parametrize(("device", "on_gpu"), [("cpu", False), ("cuda", True), ("cuda:1", True)])
def test_gpus_are_told_from_the_device(device, on_gpu):
    assert ServiceSettings(Path("m"), Path("d"), device=device).on_gpu is on_gpu
