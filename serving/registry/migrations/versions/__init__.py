"""One file per step; the order is told by `down_revision`."""
