"""Which rows run next, and with whom: a fair queue, a batcher that fills a budget, and the loop that drives the engine.

`queue` decides by virtual time over exact costs, on the books of `lines` and `debts`; `pace` learns how much work makes
a step of the wanted length; `prefetch` brings in what the next rows miss, in the same order; `stepping` runs a batch;
`loop` is the thread.
"""
