"""What has to be said before anything is imported: Triton's kernels run in its interpreter, unless TRITON_INTERPRET=0.

And what every test leaves behind: log lines that go where nobody configured them to go.
"""

import logging
import os

import pytest

os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.fixture(autouse=True)
def unconfigured_logs():
    """`logs.configure` speaks for the whole process: its handler and its silence towards the root end with the test."""
    yield
    logger = logging.getLogger("chorus")
    logger.handlers.clear()
    logger.propagate = True
    logger.setLevel(logging.NOTSET)
