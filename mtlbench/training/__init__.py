"""Trains one job, from its spec to what it leaves behind. Knows nothing of Ray."""
