"""What has to be said before anything is imported: Triton's kernels run in its interpreter, unless TRITON_INTERPRET=0."""

import os

os.environ.setdefault("TRITON_INTERPRET", "1")
