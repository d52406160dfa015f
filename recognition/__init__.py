"""How a photo becomes a prediction, and how good predictions are."""
