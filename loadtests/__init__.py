"""Load that looks like users: open-loop arrivals, skewed popularity, and every answer checked.

`trace` decides who asks for what and when, `synthetic` makes the adapters, `service` speaks HTTP, `drive` sends without
ever waiting for an answer, `answers` judges each one, `report`, `plot` and `compare` tell. `micro/` measures the
library alone, without a server. `proofs/` breaks a service of its own on purpose, and sees that its promises are kept.
"""
