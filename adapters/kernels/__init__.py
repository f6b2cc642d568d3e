"""Segmented arithmetic over one arena: many adapters, one call. Knows tensors only."""
