"""Vision encoders: one file per architecture."""
