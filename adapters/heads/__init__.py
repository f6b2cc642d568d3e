"""Prediction heads that travel with an adapter: from the states of a pass to what a task reads. One file per kind."""
