"""The processes behind Ray Serve, as plain objects."""
