"""Measurements of the library alone: one process, no server, interleaved rounds, ratios instead of absolute times."""
