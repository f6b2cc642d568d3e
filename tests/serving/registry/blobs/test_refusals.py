import errno
import os

import pytest

from serving.errors import NotReady
from serving.registry.blobs.refusals import away, storing


def test_errors_of_the_disk_name_no_path_and_say_when_to_come_again(tmp_path):
    with pytest.raises(NotReady) as caught, storing():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), tmp_path)
    assert "No space left" in caught.value.detail and str(tmp_path) not in caught.value.detail
    assert (caught.value.status, caught.value.code, caught.value.retry_after) == (503, "storage_unavailable", 2.0)
    assert away("x").code == caught.value.code


def test_other_errors_and_refusals_pass():
    with pytest.raises(ValueError), storing():
        raise ValueError
    refusal = NotReady("another")
    with pytest.raises(NotReady) as caught, storing():
        raise refusal
    assert caught.value is refusal
