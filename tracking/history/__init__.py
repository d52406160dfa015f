"""The registry's history: one append-only table beside MLflow, each row with the hash of the one before."""
