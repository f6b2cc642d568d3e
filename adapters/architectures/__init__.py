"""Where adapters bite: the closed table of sites, and one record of dotted paths per model family."""
