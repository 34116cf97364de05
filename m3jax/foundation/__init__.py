"""The foundation model that systems start from: encoders, a decoder, a generalist."""
