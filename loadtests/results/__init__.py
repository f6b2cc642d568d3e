"""What came of it: from samples to figures, from figures to a verdict, and the folder that holds all of it.

`record` is a run as a value, `summing` sums up samples, `windows` cuts them along time, `knee` finds where more load is no longer
answered, `fairness` compares tenants, `judging` brings figures and thresholds together, `environment` says on what it ran,
`folder` writes and reads.
"""
