"""Networks of the suites: each takes a batch and gives task name to output."""
