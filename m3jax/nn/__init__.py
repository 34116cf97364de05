"""Networks: encoders, the decoder and its cache, compressors, transceivers."""
