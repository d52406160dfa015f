"""One loss per file: each turns float32 logits and labels into a number to lower."""
