"""Small MIMO: several antennas on both sides, flat fading, gains known.

    y = H x + n,   H [..., Nr, Nt],   n ~ CN(0, N0 I)

``N0 = 1 / snr`` at each receive antenna. The transmitter has unit power in all, so
``snr`` is the mean SNR at one receive antenna, whatever Nt (``E|H_ij|^2 = 1``).

Detectors take the gains *as streams of unit power see them*. So Nt independent streams
that share the power are detected with ``H / sqrt(Nt)``, and one stream that is sent
from one antenna with its column ``h``. All functions take any leading axes. If the
transmitter knows the gains too: ``channels/precoding.py``.
"""

import jax.numpy as jnp

from m3jax import base
from m3jax.channels import equalisers, noise
from m3jax.ops import masks


def draw(
    key: base.Array,
    num_rx: int,
    num_tx: int,
    rx_correlation: base.Array | None = None,
    tx_correlation: base.Array | None = None,
) -> base.Array:
    """Draws one Rayleigh channel, correlated as by Kronecker's model if wanted.

        H = R_r^{1/2} G R_t^{1/2},   G_ij ~ CN(0, 1) independent

    so that ``E[H H^H] = tr(R_t) R_r`` (Paulraj, Nabar and Gore, Introduction to
    Space-Time Wireless Communications, 2003, section 3.3.2).

    Args:
      key: random key, consumed.
      num_rx: Nr.
      num_tx: Nt.
      rx_correlation: R_r ``[Nr, Nr]``, positive semidefinite with ones on its diagonal;
        None: independent antennas.
      tx_correlation: R_t ``[Nt, Nt]``, likewise.

    Returns:
      Complex ``[Nr, Nt]``; ``E|H_ij|^2 = 1``.
    """
    h = noise.complex_normal(key, (num_rx, num_tx))
    if rx_correlation is not None:
        h = _matrix_root(rx_correlation).astype(h.dtype) @ h
    if tx_correlation is not None:
        h = h @ _matrix_root(tx_correlation).astype(h.dtype)
    return h


def exponential_correlation(num: int, r: base.Array) -> base.Array:
    """Correlation ``r^|i - j|`` of antennas in a row, ``[num, num]``.

    (Loyka, IEEE Commun. Lett. 5(9), 2001.)
    """
    place = jnp.arange(num)
    return jnp.asarray(r) ** jnp.abs(place[:, None] - place)


def transmit(
    key: base.Array, x: base.Array, h: base.Array, snr: base.Array
) -> base.Array:
    """Sends one symbol from each antenna: ``y = H x + n``.

    Args:
      key: random key of the noise, consumed.
      x: complex ``[..., Nt]``, ``E sum |x|^2 = 1``.
      h: gains ``[..., Nr, Nt]``.
      snr: linear Es/N0, scalar; ``inf`` adds exact zeros.

    Returns:
      Complex ``[..., Nr]``.
    """
    return noise.add_noise(key, jnp.matvec(h, x), snr)


def mrc(y: base.Array, h: base.Array) -> base.Array:
    """Maximum-ratio combining of one stream, without bias.

        x_hat = h^H y / |h|^2,   SNR = |h|^2 / N0

    (Goldsmith, Wireless Communications, 2005, section 7.2.4.) Best of all linear
    combiners; nearest-point decisions on it are maximum likelihood.

    Args:
      y: received ``[..., Nr]``.
      h: gains of the stream ``[..., Nr]``.

    Returns:
      Complex estimates ``[...]``; 0 where all gains fade below -180 dB.
    """
    energy = jnp.sum(masks.abs_square(h), axis=-1)
    return equalisers.safe_divide(jnp.sum(jnp.conj(h) * y, axis=-1), energy)


def zero_forcing(y: base.Array, h: base.Array) -> base.Array:
    """Separates the streams and nothing else.

        x_hat = H^+ y,   SNR_k = 1 / (N0 [(H^H H)^{-1}]_kk)

    Solved by a QR factorisation, which in float32 stays good where the inverse of
    ``H^H H`` squares the condition number.

    Args:
      y: received ``[..., Nr]``.
      h: gains ``[..., Nr, Nt]`` of full column rank, so ``Nr >= Nt``.

    Returns:
      Complex estimates ``[..., Nt]``.

    Raises:
      ValueError: if there are fewer antennas than streams.
    """
    _check_rank(h)
    q, r = jnp.linalg.qr(h)
    return jnp.matvec(jnp.linalg.inv(r) @ q.mT.conj(), y)


def zero_forcing_snr(h: base.Array, no: base.Array) -> base.Array:
    """SNR of each stream after ``zero_forcing``.

    Args:
      h: gains ``[..., Nr, Nt]`` of full column rank.
      no: noise power N0, scalar.

    Returns:
      Linear SNR ``[..., Nt]``. Over i.i.d. Rayleigh gains of mean power p it is
      ``p / N0`` times a Gamma variable of shape ``Nr - Nt + 1``.

    Raises:
      ValueError: if there are fewer antennas than streams.
    """
    _check_rank(h)
    inverse = jnp.linalg.inv(jnp.linalg.qr(h, mode="r"))
    return 1.0 / (no * jnp.sum(masks.abs_square(inverse), axis=-1))


def lmmse(
    y: base.Array, h: base.Array, no: base.Array, unbiased: bool = False
) -> base.Array:
    """Linear estimate of least mean square error, for independent unit-power streams.

        x_hat = (H^H H + N0 I)^{-1} H^H y

    Args:
      y: received ``[..., Nr]``.
      h: gains ``[..., Nr, Nt]``; any number of streams if N0 is not 0.
      no: noise power N0, scalar.
      unbiased: divide by ``1 - e_k`` (``lmmse_error``), which makes the gain of every
        stream 1: what decisions with fixed thresholds want. Unlike with one antenna
        this is not zero forcing: streams still leak into each other.

    Returns:
      Complex estimates ``[..., Nt]``.
    """
    filters = jnp.linalg.inv(_regularised_gram(h, no)) @ h.mT.conj()
    x_hat = jnp.matvec(filters, y)
    if not unbiased:
        return x_hat
    return x_hat / _real_diagonal(filters @ h)


def lmmse_error(h: base.Array, no: base.Array) -> base.Array:
    """Mean square error of each stream after ``lmmse``.

        e_k = N0 [(H^H H + N0 I)^{-1}]_kk,   SINR_k = 1 / e_k - 1

    (Tse and Viswanath, Fundamentals of Wireless Communication, 2005, section 8.3.3.)

    Args:
      h: gains ``[..., Nr, Nt]``.
      no: noise power N0, scalar, not 0.

    Returns:
      Errors ``[..., Nt]`` in (0, 1].
    """
    return no * _real_diagonal(jnp.linalg.inv(_regularised_gram(h, no)))


def _real_diagonal(matrix: base.Array) -> base.Array:
    return jnp.diagonal(matrix, axis1=-2, axis2=-1).real


def _regularised_gram(h: base.Array, no: base.Array) -> base.Array:
    return h.mT.conj() @ h + no * jnp.eye(h.shape[-1], dtype=h.dtype)


def _matrix_root(matrix: base.Array) -> base.Array:
    """The root of a positive semidefinite matrix that is itself one."""
    values, vectors = jnp.linalg.eigh(matrix)
    return (vectors * jnp.sqrt(jnp.maximum(values, 0.0))) @ vectors.mT.conj()


def _check_rank(h: base.Array) -> None:
    num_rx, num_tx = h.shape[-2:]
    if num_rx < num_tx:
        raise ValueError(
            f"zero forcing needs at least as many receive antennas as streams, got "
            f"{num_rx} for {num_tx}; take lmmse."
        )
