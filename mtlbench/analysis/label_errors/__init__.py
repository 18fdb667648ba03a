"""Wrong training labels: scores, their comparison, and contact sheets of suspects."""
