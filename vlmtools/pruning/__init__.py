"""Visual-token pruning: one file per method."""
