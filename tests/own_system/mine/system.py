"""Numbers over a noisy link: a linear transmitter and receiver, learned together."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.channels import awgn
from m3jax.ops import units


@dataclasses.dataclass
class Config:
    """Settings: what a command line may override.

    Attributes:
      width: numbers of an example.
      uses: channel uses that carry them.
      train_snr_db: range that training draws the SNR from, in dB.
    """

    width: int = 8
    uses: int = 4
    train_snr_db: tuple[float, float] = (0.0, 20.0)

    NAME: ClassVar[str] = "mine"
    PARTS: ClassVar[dict[str, str]] = {"sender": "send", "receiver": "receive"}

    def validate(self) -> None:
        """Raises ValueError naming the first field that makes no sense."""
        if min(self.width, self.uses) < 1:
            raise ValueError("system.width and system.uses must be 1 or more")

    def warm_start(self, trained: base.Params) -> base.Params:
        """What another run of this system gives: everything."""
        return trained

    def make_system(self) -> base.System:
        """The system as pure functions."""
        channel, sent = awgn.AWGN(), 2 * self.uses

        def init(key, batch):
            del batch  # sizes are known
            keys = jax.random.split(key)
            shapes = {"send": (self.width, sent), "receive": (sent, self.width)}
            return {
                name: jax.random.normal(k, shape) / jnp.sqrt(shape[0])
                for k, (name, shape) in zip(keys, shapes.items(), strict=True)
            }

        def transmit(params, key, numbers, snr_db):
            x = (numbers @ params["send"]).reshape(-1, 2)
            x = x / jnp.sqrt(jnp.mean(jnp.sum(x**2, axis=-1)))
            symbols = jax.lax.complex(x[:, 0], x[:, 1])
            gains = channel.generate(key, symbols.shape)
            y = channel.apply(key, symbols, gains, units.db_to_lin(snr_db))
            return jnp.stack([y.real, y.imag], -1).reshape(-1) @ params["receive"]

        def errors(params, batch, key):
            keys = jax.random.split(key, len(batch["numbers"]))
            heard = jax.vmap(transmit, (None, 0, 0, 0))(
                params, keys, batch["numbers"], batch["snr_db"]
            )
            return jnp.mean((heard - batch["numbers"]) ** 2, axis=-1)

        def draw(batch, key):
            low, high = self.train_snr_db
            count = len(batch["numbers"])
            return {
                "snr_db": jax.random.uniform(key, (count,), minval=low, maxval=high)
            }

        return base.System(
            init=init,
            loss=lambda params, batch, key: (jnp.mean(errors(params, batch, key)), {}),
            predict={"answer": lambda *given: {"square_error": errors(*given)}},
            reads=("numbers",),
            metrics={"square_error": "power"},
            draw=draw,
        )
