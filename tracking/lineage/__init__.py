"""What a result was made from."""
