"""How an expert's distribution gets to where it is fused: whole, in part, or learned.

Equation 6 of MoE2 sends the whole distribution for every token, 2.4 Mbit with the
vocabulary of Qwen2.5 at 16 bits. Three ways here: all of it; the k most probable words,
renormalised, with few bits each; or a learned transceiver over a noisy link, which
trains with the gate and the adapters.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.channels import links
from m3jax.costs import payload
from m3jax.nn import transceiver

_LEAST = -12.0
"""Log-probabilities below this are sent as this."""


@dataclasses.dataclass
class Config:
    """Settings of the upload.

    Attributes:
      top_k: words of a distribution that are sent; None: all.
      bits: of a log-probability; None: as it is.
      num_reals: real numbers that a learned transceiver sends for a distribution, over
        ``link``; 0: there is none, and what is sent arrives.
      receiver_dim: hidden width of its receiver.
      link: the link of the transceiver.
      train_snr_db: range (low, high) that training draws its SNR from, uniformly in dB.
    """

    top_k: int | None = None
    bits: int | None = None
    num_reals: int = 0
    receiver_dim: int = 128
    link: links.LinkConfig = dataclasses.field(default_factory=links.LinkConfig)
    train_snr_db: tuple[float, float] = (0.0, 20.0)

    RANGES: ClassVar = {"receiver_dim": "[1, inf)", "num_reals": "[0, inf)"}

    def validate(self, vocab_size: int) -> None:
        """Raises ValueError naming the first field that makes no sense."""
        if self.top_k is not None and not 1 <= self.top_k <= vocab_size:
            raise ValueError(
                f"system.upload.top_k is {self.top_k}; give 1 to {vocab_size}, the"
                " size of the vocabulary, or None for all"
            )
        if self.bits is not None and not 1 <= self.bits <= 16:
            raise ValueError(
                f"system.upload.bits is {self.bits}; give 1 to 16, or None for floats"
            )
        if self.num_reals < 0 or self.num_reals % 2:
            raise ValueError(
                f"system.upload.num_reals is {self.num_reals}; give an even number,"
                " two for a channel use, or 0 for no learned transceiver"
            )
        low, high = self.train_snr_db
        if not low <= high:
            raise ValueError(
                f"system.upload.train_snr_db is {tuple(self.train_snr_db)}; give a low"
                " and a high SNR in dB"
            )
        if self.num_reals:
            self.link.make()

    @property
    def is_learned(self) -> bool:
        """Whether a transceiver carries distributions over a noisy link."""
        return self.num_reals > 0


class Upload:
    """Brings distributions to the place of fusion.

    Args:
      config: settings.
      vocab_size: V.
    """

    def __init__(self, config: Config, vocab_size: int):
        config.validate(vocab_size)
        self.config = config
        if config.is_learned:
            self._transmitter = transceiver.Transmitter(config.num_reals)
            self._receiver = transceiver.Receiver(vocab_size, config.receiver_dim)
            self._link = config.link.make()
        self._vocab_size = vocab_size

    def init(self, key: base.Array) -> base.Params:
        """Draws the transceiver; {} if there is none."""
        if not self.config.is_learned:
            return {}
        sent_key, received_key = jax.random.split(key)
        words, snr_db = jnp.zeros((1, 1, self._vocab_size)), jnp.zeros(1)
        symbols, sent = self._transmitter.init_with_output(sent_key, words, snr_db)
        received = self._receiver.init(received_key, symbols, snr_db)
        return {"transmitter": sent["params"], "receiver": received["params"]}

    def __call__(
        self,
        params: base.Params,
        log_probs: base.Array,
        valid: base.Array,
        snr_db: base.Array | None,
        key: base.Array,
    ) -> base.Array:
        """Sends what every expert says.

        Args:
          params: of the transceiver.
          log_probs: ``[B, N, A, V]``.
          valid: bool ``[B, A]``, words that there are.
          snr_db: ``[B]`` in dB; only a transceiver looks at it.
          key: randomness of the link.

        Returns:
          ``[B, N, A, V]``, normalised.
        """
        config = self.config
        if config.top_k is not None:
            log_probs = payload.top_k_renormalised(log_probs, config.top_k)
        if config.bits is not None:
            log_probs = payload.quantised(log_probs, config.bits)
        if not config.is_learned:
            return log_probs
        if snr_db is None:
            raise ValueError("the batch needs snr_db, float32 [B] in dB")
        batch_size, num, length, _ = log_probs.shape
        flat = log_probs.reshape(batch_size * num, length, -1)
        snrs_db = jnp.repeat(snr_db, num)
        symbols = self._transmitter.apply(
            {"params": params["transmitter"]}, jnp.maximum(flat, _LEAST), snrs_db
        )
        arrived = jax.vmap(self._link)(
            jax.random.split(key, len(flat)),
            symbols,
            jnp.repeat(valid, num, axis=0),
            snrs_db,
        )
        logits = self._receiver.apply(
            {"params": params["receiver"]}, arrived.values, snrs_db
        )
        return jax.nn.log_softmax(logits).reshape(log_probs.shape)
