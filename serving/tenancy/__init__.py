"""Who may ask for what: keys (`keys`), and their hashes in SQL (`store`)."""
