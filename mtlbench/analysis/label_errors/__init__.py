"""Which training labels are wrong: scores, their comparison, and contact sheets of suspects."""
