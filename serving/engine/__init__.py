"""How a batch runs: lease its adapters, one forward pass for all rows, each row's own share, release."""
