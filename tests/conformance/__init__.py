"""Conformance: adapters written by other libraries must give the outputs that those libraries computed.

`cases` reads the data, `artefacts` takes the library's public path from folder to folded adapter, `bench` holds what
shares a backbone, `single` and `mixed` run, `compare` judges, `report` tells. `data/` is the vendored golden set.
"""
