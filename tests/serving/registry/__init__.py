"""Tests of the registry: real SQLite and real files in a temporary folder."""
