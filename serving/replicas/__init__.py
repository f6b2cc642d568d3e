"""The kinds of process behind Ray Serve, one file each: a gateway, an engine, a checker. None of them knows Ray."""
