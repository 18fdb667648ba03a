"""Results directories: written whole or not at all, and read back."""

DEFAULT_RESULTS = "runs"
