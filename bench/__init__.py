"""Measurements and the demo: each module is one command, `python -m bench.<name>`."""
