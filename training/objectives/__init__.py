"""One objective per file: each turns a model and a batch into a loss and the logits that made it."""
