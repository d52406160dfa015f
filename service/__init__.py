"""HTTP: the champion behind POST /predict."""
