"""The plain decoders, one Python object per item: reference, fallback while the others compile, and test oracle."""
