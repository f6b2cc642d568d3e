from pathlib import Path

import pytest

from adapters.architectures.profile import read_profile

TINY = Path(__file__).resolve().parent.parent / "conformance" / "data" / "backbones" / "bert-tiny"


@pytest.fixture(scope="session")
def profile():
    return read_profile(TINY)
