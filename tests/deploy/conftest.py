"""What the tests of the deployment use beside Python: Debian's promtool."""

import pytest

from tests.deploy.promtool import Promtool, find


@pytest.fixture(scope="session")
def promtool() -> Promtool:
    found = find()
    if found is None:
        pytest.fail("promtool is needed: apt-get install prometheus (it could not be unpacked from the package either)")
    return found
