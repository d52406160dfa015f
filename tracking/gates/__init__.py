"""The gates: what a challenger must pass before it may become champion."""
