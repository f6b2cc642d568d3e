"""Scripts that run under a library's own Python, and see nothing of this repository but this folder."""
