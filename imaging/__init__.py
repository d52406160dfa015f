"""How the bytes of a photo become RGB pixels, under limits: the only decoder in the house."""
