"""Tasks, their losses and metrics."""
