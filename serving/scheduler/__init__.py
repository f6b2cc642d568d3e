"""Which rows run next, and with whom: a fair queue, a batcher that fills a budget, and the loop that drives the engine."""
