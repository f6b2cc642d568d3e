"""How a database of any age becomes the schema of `serving.registry.tables`; run at every start by `database`."""
