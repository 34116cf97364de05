"""Multimodal, multi-agent and mixture-of-experts AI over wireless links, in JAX.

Nothing is imported here, so ``import m3jax`` is instant; take the module you need::

    from m3jax.evals import snr_sweep
"""

__version__ = "0.1.0"
