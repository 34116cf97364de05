"""Links from plain settings, as a config or a command line holds them."""

from m3jax import base
from m3jax.channels import awgn, bit_channels, packet_loss
from m3jax.channels import csi as csi_lib
from m3jax.channels import doppler as doppler_lib
from m3jax.channels import fading as fading_lib
from m3jax.channels.links import analog, contract, digital, erasure, vq

KINDS = ("analog", "digital", "vq", "bsc", "bec", "erasure")
FADINGS = ("awgn", "rayleigh", "rician", "gauss_markov", "jakes")
CSIS = ("perfect", "pilots", "none")


def make_link(
    kind: str = "analog",
    fading: str = "rayleigh",
    block_length: int | None = None,
    bits: int | None = 8,
    qam_order: int = 16,
    limit: float = 4.0,
    *,
    dither: bool = False,
    num_codewords: int = 256,
    group_size: int = 4,
    commitment: float = 0.25,
    csi: str = "perfect",
    pilot_snr_db: float | None = None,
    num_pilots: int = 1,
    k_db: float = 10.0,
    correlation: float = 0.9,
    doppler: float = 0.01,
    num_paths: int = 32,
    probability: float | None = None,
    rate: float = 1.0,
    tokens_per_packet: int = 1,
    imputation: str = "zero",
    symbol_energy: float = 1.0,
) -> contract.Link:
    """Builds a link from plain settings.

    Settings that the chosen kind, fading and CSI do not have are ignored, so that one
    override such as ``kind="analog"`` is enough to switch.

    Args:
      kind: ``"analog"``; by QAM ``"digital"`` (scalar quantiser) or ``"vq"`` (learned
        codebook); ``"bsc"`` or ``"bec"``: the digital link over bits that are flipped
        or erased; ``"erasure"``: packets of tokens that are lost.
      fading: ``"awgn"`` (none), ``"rayleigh"``, ``"rician"``, ``"gauss_markov"`` or
        ``"jakes"``.
      block_length: channel uses that share a gain; None: one gain per example, which
        the last two fadings, being series in time, refuse.
      bits: of the scalar quantiser, per real value; erasure also takes None: floats.
      qam_order: digital and vq: 2, 4, 16, 64 or 256.
      limit: half the scalar quantiser's range, in root mean squares.
      dither: digital, bsc and bec: subtractive dither.
      num_codewords: vq: words of a group's codebook, a power of two.
      group_size: vq: values that share a codeword.
      commitment: vq: weight of the commitment loss.
      csi: analog, digital and vq: ``"perfect"``, ``"pilots"`` or ``"none"``.
      pilot_snr_db: pilots: their Es/N0 in dB; None: that of the data.
      num_pilots: pilots: how many per block.
      k_db: rician: K in dB.
      correlation: gauss_markov: of neighbouring blocks.
      doppler: jakes: cycles per channel use.
      num_paths: jakes: sinusoids in the sum.
      probability: of a flipped bit (bsc), an erased bit (bec) or a lost packet
        (erasure); None: from the SNR and the fading.
      rate: erasure: information bits per channel use.
      tokens_per_packet: erasure: neighbours that arrive or are lost together.
      imputation: erasure: ``"zero"``, ``"mean"`` or ``"learned"``.
      symbol_energy: Es in joules.

    Returns:
      A link, hashable and comparable by its settings.

    Raises:
      ValueError: for a setting that is unknown or out of range.

    Example:
      >>> make_link("digital", "awgn", bits=4).bits
      4
    """
    _check_choice("link kind", kind, KINDS)
    channel = _make_channel(fading, block_length, k_db, correlation, doppler, num_paths)
    known = _make_csi(csi, pilot_snr_db, num_pilots)
    if kind == "analog":
        return analog.AnalogLink(channel, known, symbol_energy)
    if kind == "vq":
        return vq.VQLink(
            channel,
            num_codewords,
            group_size,
            qam_order,
            commitment,
            known,
            symbol_energy,
        )
    if kind == "erasure":
        loss = _make_loss(channel, probability, rate)
        return erasure.ErasureLink(
            loss, bits, limit, imputation, tokens_per_packet, symbol_energy
        )
    if kind != "digital":
        channel = _make_bit_channel(kind, fading, probability)
    return digital.DigitalLink(
        channel, bits, qam_order, limit, dither, known, symbol_energy
    )


def _make_channel(
    fading: str,
    block_length: int | None,
    k_db: float,
    correlation: float,
    doppler: float,
    num_paths: int,
) -> base.Channel:
    _check_choice("fading", fading, FADINGS)
    if fading == "awgn":
        return awgn.AWGN()
    if fading == "rayleigh":
        return fading_lib.RayleighBlock(block_length)
    if fading == "rician":
        return fading_lib.RicianBlock(k_db, block_length)
    if block_length is None:
        raise ValueError(
            f"fading {fading!r} changes from block to block, so block_length must be a "
            "positive integer; 1 lets it change with every channel use."
        )
    if fading == "gauss_markov":
        return doppler_lib.GaussMarkov(correlation, block_length)
    return doppler_lib.Jakes(doppler, block_length, num_paths)


def _make_csi(csi: str, pilot_snr_db: float | None, num_pilots: int) -> csi_lib.CSI:
    _check_choice("csi", csi, CSIS)
    if csi == "perfect":
        return csi_lib.PerfectCSI()
    if csi == "pilots":
        return csi_lib.PilotCSI(pilot_snr_db, num_pilots)
    return csi_lib.NoCSI()


def _make_loss(
    channel: base.Channel, probability: float | None, rate: float
) -> packet_loss.PacketLoss:
    if probability is None:
        return packet_loss.Outage(channel, rate)
    return packet_loss.IndependentLoss(probability, rate)


def _make_bit_channel(
    kind: str, fading: str, probability: float | None
) -> bit_channels.BitChannel:
    if probability is not None:
        return {"bsc": bit_channels.BSC, "bec": bit_channels.BEC}[kind](probability)
    if kind == "bsc":
        return bit_channels.BSC(fading=fading)
    if fading != "rayleigh":
        raise ValueError(
            "a bec takes the probability of an erasure from outage over fading "
            f"'rayleigh', got {fading!r}; or give the probability itself."
        )
    return bit_channels.BEC()


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {choices}, got {value!r}.")
