"""The registry's history: one append-only table of events beside MLflow, each row with the hash of the one before."""
