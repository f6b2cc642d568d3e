"""Whether an engine still computes: some errors of an accelerator end only with the process that has them.

After an illegal memory access every call to the device fails, in a process that looks alive and has the shortest line.
"""

from collections.abc import Sequence

import torch

from serving.engine.forward import Forward, Work


def computes(forward: Forward, rows: Sequence[Work]) -> bool:
    """Whether rows that ran before do so now; a device that is only full of others' work is no broken one."""
    try:
        forward.run(rows)
    except torch.OutOfMemoryError:
        return True
    except Exception:  # whatever it is, it is none of these rows' doing
        return False
    return True
