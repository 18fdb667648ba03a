"""Training data: splits, variants of the labels, corruption, rows, shards, preparation."""
