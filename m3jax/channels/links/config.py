"""Settings of a link, mutable, so that a command line can override them."""

import dataclasses
from typing import ClassVar

from m3jax.channels.links import contract, make


@dataclasses.dataclass
class LinkConfig:
    """A wireless link as a config holds it: the settings of `make_link`.

    Those that the chosen kind, fading and CSI do not have are ignored.

    Attributes:
      kind: "analog", "digital", "vq", "bsc", "bec" or "erasure".
      fading: "awgn", "rayleigh", "rician", "gauss_markov" or "jakes".
      block_length: channel uses that share one fading gain; None: the whole message
        of one modality.
      bits, limit, dither: of the scalar quantiser.
      qam_order: of the modem.
      num_codewords, group_size, commitment: of the learned codebook ("vq").
      csi, pilot_snr_db, num_pilots: what the receiver knows of the gains.
      k_db: of "rician".
      correlation: of "gauss_markov".
      doppler, num_paths: of "jakes".
      probability: of a flipped or erased bit, or a lost packet.
      rate, tokens_per_packet, imputation: of "erasure".
      symbol_energy: joules of a symbol.
    """

    kind: str = "analog"
    fading: str = "rayleigh"
    block_length: int | None = 32
    bits: int | None = 4
    qam_order: int = 16
    limit: float = 4.0
    dither: bool = False
    num_codewords: int = 256
    group_size: int = 4
    commitment: float = 0.25
    csi: str = "perfect"
    pilot_snr_db: float | None = None
    num_pilots: int = 1
    k_db: float = 10.0
    correlation: float = 0.9
    doppler: float = 0.01
    num_paths: int = 32
    probability: float | None = None
    rate: float = 1.0
    tokens_per_packet: int = 1
    imputation: str = "zero"
    symbol_energy: float = 1.0

    RANGES: ClassVar = {
        **dict.fromkeys(("block_length", "bits", "num_codewords"), "[1, inf)"),
        **dict.fromkeys(("group_size", "num_pilots", "num_paths"), "[1, inf)"),
        **dict.fromkeys(("limit", "rate", "symbol_energy"), "(0, inf)"),
        **dict.fromkeys(("commitment", "doppler"), "[0, inf)"),
        **dict.fromkeys(("pilot_snr_db", "k_db"), "(-inf, inf]"),
        "qam_order": "[2, inf)",
        "tokens_per_packet": "[1, inf)",
        "correlation": "[-1, 1]",
        "probability": "[0, 1]",
    }
    """Where each setting lies, whether or not the chosen kind has it."""

    def make(self) -> contract.Link:
        """The link; raises ValueError for a setting that is out of range."""
        return make.make_link(**dataclasses.asdict(self))
