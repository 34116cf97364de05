"""Wireless channels and the token links made of them, differentiable throughout."""
