"""The HTTP surface: one file per surface, over the protocols of `services.py`."""
