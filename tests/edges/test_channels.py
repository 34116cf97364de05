"""What every public function of ``m3jax.channels`` does at the edges: a row each."""

import jax
import jax.numpy as jnp
import pytest

from m3jax import channels
from m3jax.channels import (
    arq,
    awgn,
    bit_channels,
    bit_information,
    capacity,
    codebook,
    csi,
    doppler,
    equalisers,
    fading,
    finite_blocklength,
    link_budget,
    mimo,
    mobility,
    modulation,
    noise,
    packet_loss,
    path_loss,
    polar,
    polar_decoders,
    power,
    precoding,
    quantisers,
    rate_adaptation,
    shadowing,
    soft_bits,
    theory,
    topology,
    tr38901,
    unequal_protection,
)
from m3jax.channels.links import bit_pipe, contract, make_link, transmission
from m3jax.ops.quantities import Db, Dbm, Hertz
from m3jax.testing import completeness
from m3jax.testing.edge_values import DTYPES, Row, check

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.key(0)
X = jnp.array([1.5, 0.5, 2.0])
ONE = jnp.float32(1.5)
HALF = jnp.float32(0.3)
TABLE = jnp.array([[1.5, 0.5], [0.5, 3.0], [1.0, 1.0]])
MASK = jnp.ones(3, bool)
Z = jnp.array([0.5 + 0.5j, -0.5 + 0.2j, 0.1 - 0.5j])
H = jnp.array([1.0 + 0.5j, 0.5 - 1.0j, 0.3 + 0.1j])
MATRIX = jnp.array([[1.0 + 0.5j, 0.2], [0.1j, 0.8], [0.3, 0.4 + 0.2j]])
BITS = jnp.array([[0, 1, 1, 0], [1, 1, 0, 0], [0, 1, 0, 1]])
CODE = polar.make_polar_code(4, 8)
LLRS = jnp.array([3.0, -3.0, 2.0, -2.0, 1.0, -1.0, 4.0, -4.0])
MCS = rate_adaptation.MCSTable("two", orders=(4, 16), code_rates=(0.5, 0.75))
CARRIER = jnp.float32(3.5e9)
WORDS = jnp.array([[[0.5, 1.0], [-1.0, 0.5]]])


def over(link, params=()):
    """What arrives over a link, from values, mask and SNR in dB."""

    def send(values, mask, snr_db):
        out = link(KEY, values, mask, snr_db, params)
        return out._replace(energy=0.0)  # at the ends of the SNR pilots take up to inf

    return send


def link_rows(name, *links):
    """Rows by values, whose NaN arrives, and by the SNR, down to none at all."""
    edges = "inf ninf zero tiny huge"
    for link, params, zeros in links:
        args = (TABLE, MASK, jnp.float32(3.0))
        kinds = {"inf": "any", "ninf": "any"}  # infinite values have no power of 1
        yield Row(over(link, params), args, 0, name, mask=1, grad="zero tiny", **kinds)
        quiet = {"ninf": lambda out: ~jnp.any(out.values)} if zeros else {}
        yield Row(over(link, params), args, 2, name, grad=edges, **quiet)


def links(kind, **settings):
    return make_link(kind, **settings)


ROWS = [
    Row(lambda f: arq.ARQ().expect(f), (jnp.array([0.5, 0.25, 0.1]),), 0, "arq.ARQ.expect"),
    Row(arq.ARQ().seconds, (X,), 0, "arq.ARQ.seconds"),
    Row(lambda e: arq.repeated(e, 3), (HALF,), 0, "arq.repeated"),
    Row(lambda s: arq.chase(lambda x: jnp.exp(-x), s, 3), (ONE,), 0, "arq.chase"),
    Row(lambda snr, rate: arq.chase_rayleigh(snr, rate, 3), (ONE, ONE), (0, 1), "arq.chase_rayleigh"),
    Row(lambda x, snr: awgn.AWGN().apply(KEY, x, H, snr), (Z, ONE), (0, 1), "awgn.AWGN.apply", grad="zero inf tiny"),
    Row(lambda snr: bit_channels.BSC().probability(snr), (ONE,), 0, "bit_channels.BSC.probability"),
    Row(lambda snr: bit_channels.BEC().probability(snr), (ONE,), 0, "bit_channels.BEC.probability"),
    Row(lambda snr: bit_channels.BSC().carry(BITS, jnp.full((3, 4), 0.5), snr), (ONE,), 0, "bit_channels.BSC.carry", nan=lambda out: jnp.all(out.bits != BITS)),
    Row(lambda snr: bit_channels.BEC().carry(BITS, jnp.full((3, 4), 0.5), snr), (ONE,), 0, "bit_channels.BEC.carry", nan=lambda out: ~jnp.any(out.known)),
    Row(lambda snr: bit_information.bit_information(snr, 4), (ONE,), 0, "bit_information.bit_information"),
    Row(capacity.shannon, (X,)),
    Row(capacity.shannon_snr, (X,)),
    Row(capacity.ergodic, (ONE, H), (0, 1)),
    Row(capacity.ergodic_rayleigh, (X,)),
    Row(capacity.outage_probability_rayleigh, (ONE, ONE), (0, 1)),
    Row(capacity.outage_capacity_rayleigh, (ONE, HALF), (0, 1)),
    Row(capacity.outage_probability, (ONE, ONE, H), (0, 1, 2)),
    Row(capacity.outage_capacity, (ONE, HALF, H), (0, 1)),
    Row(codebook.nearest, (WORDS, TABLE), 1),
    Row(lambda x, m: codebook.losses(WORDS, jnp.zeros((3, 1), int), x, m), (TABLE, MASK), 0, "codebook.losses", mask=1),
    Row(lambda h, snr: csi.PerfectCSI().estimate(KEY, h, snr), (H, ONE), 0, "csi.PerfectCSI.estimate"),
    Row(lambda h, snr: csi.PilotCSI().estimate(KEY, h, snr), (H, ONE), (0, 1), "csi.PilotCSI.estimate", grad="zero inf tiny"),
    Row(doppler.from_speed, (ONE, CARRIER, HALF), (0, 1, 2)),
    Row(doppler.correlation, (HALF, ONE), (0, 1)),
    Row(equalisers.mmse, (Z, H, HALF), (0, 1, 2)),
    Row(equalisers.zero_forcing, (Z, H), (0, 1)),
    Row(equalisers.safe_divide, (X, X[::-1]), (0, 1)),
    Row(lambda x, snr: fading.RayleighBlock().apply(KEY, x, H, snr), (Z, ONE), (0, 1), "fading.FlatFading.apply", grad="zero inf tiny"),
    Row(finite_blocklength.dispersion, (X,)),
    Row(finite_blocklength.rate, (ONE, 100 * ONE, HALF), (0, 1, 2)),
    Row(finite_blocklength.error, (ONE, 100 * ONE, HALF), (0, 1, 2)),
    Row(finite_blocklength.snr, (ONE, 100 * ONE, HALF), (0, 1, 2)),
    Row(lambda b, n: link_budget.thermal_noise(Hertz(b), Db(n)), (CARRIER, ONE), (0, 1), "link_budget.thermal_noise"),
    Row(lambda p, b, g: link_budget.LinkBudget(tx_power=Dbm(p), bandwidth=Hertz(b), path_loss=Db(g)).energy_per_bit(2.0), (ONE, CARRIER, ONE), (0, 1), "link_budget.LinkBudget.energy_per_bit"),
    Row(lambda x: mimo.transmit(KEY, x, MATRIX, 2.0), (Z[:2],), 0, "mimo.transmit"),
    Row(mimo.mrc, (Z, H), (0, 1)),
    Row(mimo.zero_forcing, (Z, MATRIX), (0, 1), skip="empty one"),
    Row(mimo.zero_forcing_snr, (MATRIX, ONE), (0, 1), skip="empty one"),
    Row(mimo.lmmse, (Z, MATRIX, ONE), (0, 1, 2), skip="empty one"),
    Row(mimo.lmmse_error, (MATRIX, ONE), (0, 1), skip="empty one"),
    Row(lambda x, v, t: mobility.straight_line(x, v, t, 5.0), (TABLE, TABLE, ONE), (0, 1, 2), "mobility.straight_line"),
    Row(lambda x: modulation.demodulate(x, 4), (Z,), 0, "modulation.demodulate"),
    Row(lambda x: modulation.nearest_label(x, 16), (X,), 0, "modulation.nearest_label"),
    Row(noise.noise_power, (X,), grad="zero inf tiny"),
    Row(noise.audible, (X,), grad="zero inf tiny"),
    Row(lambda x, snr: noise.add_noise(KEY, x, snr), (Z, ONE), (0, 1), "noise.add_noise", grad="zero inf tiny"),
    Row(lambda s: noise.Convention(noise="real").to_es_n0(s), (X,), 0, "noise.Convention.to_es_n0"),
    Row(lambda s: noise.Convention(noise="real").from_es_n0(s), (X,), 0, "noise.Convention.from_es_n0"),
    Row(lambda s: noise.Convention(noise="real").to_es_n0_db(s), (X,), 0, "noise.Convention.to_es_n0_db"),
    Row(lambda s: noise.Convention(noise="real").from_es_n0_db(s), (X,), 0, "noise.Convention.from_es_n0_db"),
    Row(lambda snr: packet_loss.Outage().arrivals(KEY, 3, 4, snr), (ONE,), 0, "packet_loss.Outage.arrivals", nan=False),
    Row(lambda distance, carrier: path_loss.free_space(distance, Hertz(carrier)), (X, CARRIER), (0, 1), "path_loss.free_space"),
    Row(lambda distance, exponent, loss: path_loss.log_distance(distance, exponent, Db(loss)), (10 * X, ONE, ONE), (0, 1, 2), "path_loss.log_distance"),
    Row(lambda llrs: polar_decoders.belief_propagation(CODE, llrs, 5), (LLRS,), 0, "polar_decoders.belief_propagation"),
    Row(lambda llrs: polar_decoders.successive_cancellation(CODE, llrs), (LLRS,), 0, "polar_decoders.successive_cancellation"),
    Row(power.normalise, (TABLE, MASK), mask=1, grad="zero tiny huge"),
    Row(lambda h: precoding.mode_powers(precoding.Eigenmodes(None, h, None), ONE), (X,), 0, "precoding.mode_powers"),
    Row(lambda x: quantisers.uniform(x, 3), (X,), 0, "quantisers.uniform"),
    Row(lambda x: quantisers.dithered(KEY, x, 3), (X,), 0, "quantisers.dithered"),
    Row(quantisers.straight_through, (X, X)),
    Row(lambda snr, n: rate_adaptation.block_errors(MCS, snr, n), (ONE, 100 * ONE), (0, 1), "rate_adaptation.block_errors"),
    Row(lambda snr, n: rate_adaptation.choose(MCS, snr, n), (ONE, 100 * ONE), (0, 1), "rate_adaptation.choose"),
    Row(lambda s: shadowing.draw(KEY, Db(s), (3,)), (ONE,), 0, "shadowing.draw"),
    Row(lambda x, moved, s, d: shadowing.step(KEY, Db(x), moved, Db(s), d), (X, X, ONE, ONE), (0, 1, 2, 3), "shadowing.step"),
    Row(lambda moved, s, d: shadowing.along_path(KEY, moved, Db(s), d), (X, ONE, ONE), (0, 1, 2), "shadowing.along_path"),
    Row(lambda x, s, d: shadowing.correlated(KEY, x, Db(s), d), (TABLE, ONE, ONE), (0, 1, 2), "shadowing.correlated"),
    Row(lambda x, no: soft_bits.exact_llr(x, no, 4), (Z, HALF), (0, 1), "soft_bits.exact_llr"),
    Row(lambda x, no: soft_bits.max_log_llr(x, no, 4), (Z, HALF), (0, 1), "soft_bits.max_log_llr"),
    Row(lambda x, no: soft_bits.axis_llr(x, no, 4), (X, HALF), (0, 1), "soft_bits.axis_llr"),
    Row(soft_bits.decide, (X,)),
    Row(lambda x: soft_bits.modulate(x, 4), (TABLE,), 0, "soft_bits.modulate", grad="inf ninf"),
    Row(lambda x: soft_bits.straight_through_modulate(x, 4), (TABLE,), 0, "soft_bits.straight_through_modulate"),
    Row(lambda snr, k: theory.bit_error_rate(snr, 4, k), (ONE, ONE), (0, 1), "theory.bit_error_rate"),
    Row(lambda snr, k: theory.symbol_error_rate(snr, 4, k), (ONE, ONE), (0, 1), "theory.symbol_error_rate"),
    Row(topology.distance_2d, (TABLE, TABLE[::-1]), (0, 1)),
    Row(topology.distance_3d, (X, ONE), (0, 1)),
    Row(lambda d, f: tr38901.UMI.los(d, Hertz(f)), (100 * X, CARRIER), (0, 1), "tr38901.Scenario.los"),
    Row(lambda d, f: tr38901.UMI.nlos(d, Hertz(f)), (100 * X, CARRIER), (0, 1), "tr38901.Scenario.nlos"),
    Row(lambda d, f: tr38901.UMI.path_loss(d, Hertz(f), MASK), (100 * X, CARRIER), (0, 1), "tr38901.Scenario.path_loss"),
    Row(lambda d, f: tr38901.UMI.expected_path_loss(d, Hertz(f)), (100 * X, CARRIER), (0, 1), "tr38901.Scenario.expected_path_loss"),
    Row(lambda d: tr38901.UMI.los_probability(d), (100 * X,), 0, "tr38901.Scenario.los_probability"),
    Row(lambda d: tr38901.UMI.draw_los(KEY, d), (100 * X,), 0, "tr38901.Scenario.draw_los"),
    Row(lambda f: tr38901.UMI.breakpoint_distance(Hertz(f)), (CARRIER,), 0, "tr38901.Scenario.breakpoint_distance"),
    Row(unequal_protection.allocate_power, (X, MASK, ONE), (0, 2), mask=1),
    Row(lambda w, m, snr: unequal_protection.allocate_mcs(w, m, snr, MCS, 8, 40), (X, MASK, ONE), (0, 2), "unequal_protection.allocate_mcs", mask=1),
    *link_rows(
        "links.analog.AnalogLink",
        (links("analog", fading="awgn"), (), True),
        (links("analog"), (), True),
        (links("analog", csi="pilots"), (), True),
        (links("analog", csi="none"), (), True),
    ),
    *link_rows(
        "links.digital.DigitalLink",
        (links("digital"), (), False),
    ),
    *link_rows("links.erasure.ErasureLink", (links("erasure"), (), False)),
    *link_rows(
        "links.vq.VQLink",
        (links("vq", num_codewords=2, group_size=2), {"codewords": WORDS}, False),
    ),
]

EXEMPT = {
    "blocks.*": "lengths and places of gains, no numbers of the user's",
    "bits.*": "integers in, bits out",
    "labels.*": "integer labels; demodulate as modulation.demodulate",
    "codebook.check": "settings",
    "codebook.fit": "host only, NumPy",
}


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_edges(row):
    check(row, dtypes=["uint8"], quick=True)


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS, ids=str)
def test_edges_in_every_type(row):
    check(row, dtypes=DTYPES)


def test_every_function_has_a_row_or_a_reason():
    assert completeness.missing(channels, [row.covers for row in ROWS], EXEMPT) == []
