"""A system of your own, in a package of your own: m3jax is not edited."""
