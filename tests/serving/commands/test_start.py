import pytest

from serving.commands.start import refuse_open_door
from serving.config import ServiceSettings
from serving.errors import Forbidden
from tests.serving.hand import Hand


def settings(data, host):
    return ServiceSettings(backbone=data, data=data, host=host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7"])
def test_beyond_loopback_the_service_does_not_start_without_a_key(tmp_path, host):
    with pytest.raises(Forbidden) as caught:
        refuse_open_door(settings(tmp_path, host))
    assert f"chorus key create --data {tmp_path}" in str(caught.value)
    made = Hand("").json("key", "create", "--data", tmp_path)
    refuse_open_door(settings(tmp_path, host))
    Hand("").run("key", "revoke", made["key_id"], "--data", tmp_path)
    with pytest.raises(Forbidden):
        refuse_open_door(settings(tmp_path, host))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_on_loopback_it_starts_without_one_and_touches_no_data(tmp_path, host):
    data = tmp_path / "data"
    refuse_open_door(settings(data, host))
    assert not data.exists()
