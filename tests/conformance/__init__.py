"""Conformance: adapters written by other libraries must give the outputs that those libraries computed.

`cases` reads the data: `arrangement` says what runs on every input, `references` which stored output is whose.
`artefacts` takes the library's public path from folders (or a saved setup) to packages, `bench` holds what shares a
backbone, `single` and `mixed` run, `compare` judges, `report` tells. `data/` is the vendored golden set.
"""
