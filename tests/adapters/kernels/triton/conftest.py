"""A GPU's arithmetic overflows in silence; the interpreter's, which is numpy's, would warn."""

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def silent_arithmetic():
    with np.errstate(all="ignore"):
        yield
