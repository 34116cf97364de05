"""Token links: real token vectors in, real token vectors out, and what they cost.

A link is one call for one example, the same for every kind; ``vmap`` gives batches:

    link(key, values [L, R], mask [L], snr_db, params) -> LinkOutput

``params`` come from ``link.init(key, R)``: empty for most, arrays that are trained with
the rest for links with learned parts.

Values are scaled to unit mean square over the valid tokens before they are sent, and
arrive at that scale. The scale itself is not sent: a receiver that got it for nothing
would hold information that crossed no channel. With no noise an analog link therefore
returns ``values / rms(values)``, and a digital link the same, quantised.

``docs/links.md`` says for each link what is differentiable; a test reads it.
"""

from m3jax.channels.links.analog import AnalogLink
from m3jax.channels.links.config import LinkConfig
from m3jax.channels.links.contract import Link, LinkOutput
from m3jax.channels.links.digital import DigitalLink
from m3jax.channels.links.erasure import ErasureLink
from m3jax.channels.links.make import CSIS, FADINGS, KINDS, make_link
from m3jax.channels.links.vq import VQLink

__all__ = [
    "CSIS",
    "FADINGS",
    "KINDS",
    "AnalogLink",
    "DigitalLink",
    "ErasureLink",
    "Link",
    "LinkConfig",
    "LinkOutput",
    "VQLink",
    "make_link",
]
