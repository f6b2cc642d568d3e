"""The round trip through the real libraries: what they save is read here, and what is written here they load.

A seed draws a case inside the library (`workers`, under an environment of its own), which saves it and says its
outputs, in the format of the conformance data. `tests.conformance` judges what this repository computes from it. The
same packages are written again (`written`), the library loads them, and its new outputs are judged in the same way, as
are those of adapters that were made here (`native`).
"""
