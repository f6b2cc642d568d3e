"""How each kind of adapter computes: one file per method, and `table` lists them all."""
