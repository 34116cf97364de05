"""Which hops a token takes between the user, the place of fusion and the servers."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.costs import payload, servers, transmission

FUSE_AT = ("user", "server")


class Hops(NamedTuple):
    """Seconds of what is sent for each server (MoE2, equations 5 and 6).

    Attributes:
      prompt_token_s: until it has one more token of the prompt.
      told_s: until it has the token that was chosen last.
      gathered_s: until its distribution is where fusion happens and, where that is not
        at the user, the token is at the user.
    """

    prompt_token_s: base.Array
    told_s: base.Array
    gathered_s: base.Array


def gains(key: base.Array, num: int, num_servers: int, fading: bool) -> base.Array:
    """Draws power gains of Rayleigh fading, of mean 1.

    Server n meets the same gains in every fleet that it is n-th in.

    Args:
      key: random key, consumed.
      num: draws of each server.
      num_servers: N.
      fading: without it all gains are 1.

    Returns:
      ``[num, N]``.
    """
    if not fading:
        return jnp.ones((num, num_servers))
    keys = jax.vmap(lambda n: jax.random.fold_in(key, n))(jnp.arange(num_servers))
    return jax.vmap(lambda k: jax.random.exponential(k, (num,)), out_axes=1)(keys)


def make(
    fleet: servers.Fleet,
    gain: base.Array,
    *,
    top_k: int | None,
    bits: int,
    fuse_at: str,
    backhaul_bps: base.Array,
    snr_offset_db: base.Array = 0.0,
    user_offset_db: base.Array = 0.0,
) -> Hops:
    """The hops of each server.

    With fusion at the user all goes over each server's own link. With fusion at the
    nearest server, that of the best mean SNR, prompt and tokens cross its link alone,
    and distributions and tokens go between servers over the backhaul; its own take no
    hop.

    Args:
      fleet: N servers.
      gain: power gains ``[..., N]``, the same both ways.
      top_k: see ``payload.distribution_bits``.
      bits: see there.
      fuse_at: "user" or "server".
      backhaul_bps: bits a second between servers.
      snr_offset_db: added to the mean SNR of every link.
      user_offset_db: added to that of what the user sends, whose power is another.

    Returns:
      Seconds, ``[..., N]`` each.
    """
    words = fleet.model.vocab_size
    distribution = payload.distribution_bits(words, top_k, bits)
    token = payload.token_bits(words)
    snr_db = fleet.snr_db + snr_offset_db
    down = transmission.rate(snr_db, gain, fleet.bandwidth_hz)
    up = transmission.rate(snr_db + user_offset_db, gain, fleet.bandwidth_hz)
    if fuse_at == "user":
        told = transmission.delay(token, up)
        return Hops(told, told, transmission.delay(distribution, down))
    nearest = jnp.argmax(snr_db)
    is_nearest = jnp.arange(fleet.num_servers) == nearest
    cable = jnp.where(is_nearest, 0.0, 1.0 / backhaul_bps)
    to_user = transmission.delay(token[nearest], down[..., nearest, None])
    from_user = transmission.delay(token[nearest], up[..., nearest, None])
    told = jnp.broadcast_to(token * cable, gain.shape)
    return Hops(from_user + told, told, distribution * cable + to_user)
