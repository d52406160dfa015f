"""What happened: runs in MLflow, through a spool on disk that no dead server empties."""
