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
from m3jax.channels.links import make_link
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


# What is drawn differs in 64 bits; beside it stand gains of one length.
DRAWN = "float64 empty one"


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
        yield Row(
            over(link, params),
            args,
            0,
            name,
            skip=DRAWN,
            mask=1,
            grad="zero tiny",
            **kinds,
        )
        quiet = {"ninf": lambda out: ~jnp.any(out.values)} if zeros else {}
        yield Row(over(link, params), args, 2, name, skip=DRAWN, grad=edges, **quiet)


def links(kind, **settings):
    return make_link(kind, **settings)


# "any" stands where a value lies outside of a function's domain (a ratio of -inf, a
# probability of 1e30), or where integers and bits, which have no NaN, are decided.
ROWS = [
    Row(
        lambda failures: arq.ARQ().expect(failures),
        (jnp.array([0.5, 0.25, 0.1]),),
        0,
        "arq.ARQ.expect",
        inf="any",
        ninf="any",
        huge="any",
    ),
    Row(arq.ARQ().seconds, (X,), 0, "arq.ARQ.seconds"),
    Row(lambda e: arq.repeated(e, 3), (HALF,), 0, "arq.repeated"),
    Row(lambda s: arq.chase(lambda x: jnp.exp(-x), s, 3), (ONE,), 0, "arq.chase"),
    Row(
        lambda snr, rate: arq.chase_rayleigh(snr, rate, 3),
        (ONE, ONE),
        (0, 1),
        "arq.chase_rayleigh",
        ninf="any",
    ),
    Row(
        lambda x, snr: awgn.AWGN().apply(KEY, x, H, snr),
        (Z, ONE),
        (0, 1),
        "awgn.AWGN.apply",
        skip=DRAWN,
        grad="zero tiny",
    ),
    Row(
        lambda snr: bit_channels.BSC().probability(snr),
        (ONE,),
        0,
        "bit_channels.BSC.probability",
        ninf="any",
    ),
    Row(
        lambda snr: bit_channels.BEC().probability(snr),
        (ONE,),
        0,
        "bit_channels.BEC.probability",
    ),
    Row(
        lambda snr: bit_channels.BSC().carry(BITS, jnp.full((3, 4), 0.5), snr),
        (ONE,),
        0,
        "bit_channels.BSC.carry",
        nan=lambda out: jnp.all(out.bits != BITS),
    ),
    Row(
        lambda snr: bit_channels.BEC().carry(BITS, jnp.full((3, 4), 0.5), snr),
        (ONE,),
        0,
        "bit_channels.BEC.carry",
        nan=lambda out: ~jnp.any(out.known),
    ),
    Row(
        lambda snr: bit_information.bit_information(snr, 4),
        (ONE,),
        0,
        "bit_information.bit_information",
    ),
    Row(capacity.shannon, (X,), ninf="nan"),
    Row(capacity.shannon_snr, (X,)),
    Row(capacity.ergodic, (ONE, H), (0, 1), ninf="any"),
    Row(capacity.ergodic_rayleigh, (X,)),
    Row(capacity.outage_probability_rayleigh, (ONE, ONE), (0, 1)),
    Row(
        capacity.outage_capacity_rayleigh,
        (ONE, HALF),
        (0, 1),
        inf="any",
        ninf="any",
        huge="any",
    ),
    Row(
        capacity.outage_probability, (ONE, ONE, H), (0, 1, 2), nan=lambda out: out > 0.0
    ),
    Row(
        capacity.outage_capacity,
        (ONE, HALF, H),
        (0, 1),
        inf="any",
        ninf="any",
        huge="any",
    ),
    Row(codebook.nearest, (WORDS, TABLE), 1, nan="any"),
    Row(
        lambda x, m: codebook.losses(WORDS, jnp.zeros((3, 1), int), x, m),
        (TABLE, MASK),
        0,
        "codebook.losses",
        skip="empty one",
        mask=1,
    ),
    Row(
        lambda h, snr: csi.PerfectCSI().estimate(KEY, h, snr),
        (H, ONE),
        0,
        "csi.PerfectCSI.estimate",
        inf="any",
        ninf="any",
    ),
    Row(
        lambda h, snr: csi.PilotCSI().estimate(KEY, h, snr),
        (H, ONE),
        (0, 1),
        "csi.PilotCSI.estimate",
        skip=DRAWN,
        inf="any",
        ninf="any",
        grad="zero tiny",
    ),
    Row(doppler.from_speed, (ONE, CARRIER, HALF), (0, 1, 2)),
    Row(doppler.correlation, (HALF, ONE), (0, 1), inf="nan", ninf="nan"),
    Row(equalisers.mmse, (Z, H, HALF), (0, 1, 2), inf="any", ninf="any"),
    Row(equalisers.zero_forcing, (Z, H), (0, 1), inf="any", ninf="any"),
    Row(equalisers.safe_divide, (X, X[::-1]), (0, 1)),
    Row(
        lambda x, snr: fading.RayleighBlock().apply(KEY, x, H, snr),
        (Z, ONE),
        (0, 1),
        "fading.FlatFading.apply",
        skip=DRAWN,
        grad="zero tiny",
    ),
    Row(finite_blocklength.dispersion, (X,), ninf="nan"),
    Row(
        finite_blocklength.rate,
        (ONE, 100 * ONE, HALF),
        (0, 1, 2),
        inf="any",
        ninf="any",
        huge="any",
    ),
    Row(
        finite_blocklength.error,
        (ONE, 100 * ONE, HALF),
        (0, 1, 2),
        inf="any",
        ninf="any",
        zero="any",
    ),
    Row(
        finite_blocklength.snr,
        (ONE, 100 * ONE, HALF),
        (0, 1, 2),
        inf="any",
        ninf="any",
        zero="any",
        huge="any",
    ),
    Row(
        lambda b, n: link_budget.thermal_noise(Hertz(b), Db(n)),
        (CARRIER, ONE),
        (0, 1),
        "link_budget.thermal_noise",
    ),
    Row(
        lambda p, b, g: link_budget.LinkBudget(
            tx_power=Dbm(p), bandwidth=Hertz(b), path_loss=Db(g)
        ).energy_per_bit(2.0),
        (ONE, CARRIER, ONE),
        (0, 1),
        "link_budget.LinkBudget.energy_per_bit",
    ),
    Row(
        lambda x: mimo.transmit(KEY, x, MATRIX, 2.0),
        (Z[:2],),
        0,
        "mimo.transmit",
        skip=DRAWN,
        inf="any",
        ninf="any",
    ),
    Row(mimo.mrc, (Z, H), (0, 1), inf="any", ninf="any"),
    Row(
        mimo.zero_forcing,
        (Z, MATRIX),
        (0, 1),
        inf="any",
        ninf="any",
        huge="any",
        skip="empty one",
    ),
    Row(
        mimo.zero_forcing_snr,
        (MATRIX, ONE),
        (0, 1),
        inf="any",
        ninf="any",
        huge="any",
        skip="empty one",
    ),
    Row(
        mimo.lmmse,
        (Z, MATRIX, ONE),
        (0, 1),
        inf="any",
        ninf="any",
        huge="any",
        skip="empty one",
    ),
    Row(
        mimo.lmmse_error,
        (MATRIX, ONE),
        0,
        inf="any",
        ninf="any",
        huge="any",
        skip="empty one",
    ),
    Row(
        lambda x, v, t: mobility.straight_line(x, v, t, 5.0),
        (TABLE, TABLE, ONE),
        (0, 1, 2),
        "mobility.straight_line",
        inf="nan",
        ninf="nan",
    ),
    Row(
        lambda x: modulation.demodulate(x, 4),
        (Z,),
        0,
        "modulation.demodulate",
        nan="any",
    ),
    Row(
        lambda x: modulation.nearest_label(x, 16),
        (X,),
        0,
        "modulation.nearest_label",
        nan="any",
    ),
    Row(noise.noise_power, (X,), grad="zero tiny"),
    Row(noise.audible, (X,), grad="zero tiny"),
    Row(
        lambda x, snr: noise.add_noise(KEY, x, snr),
        (Z, ONE),
        (0, 1),
        "noise.add_noise",
        skip=DRAWN,
        grad="zero tiny",
    ),
    Row(
        lambda s: noise.Convention(noise="real").to_es_n0(s),
        (X,),
        0,
        "noise.Convention.to_es_n0",
    ),
    Row(
        lambda s: noise.Convention(noise="real").from_es_n0(s),
        (X,),
        0,
        "noise.Convention.from_es_n0",
    ),
    Row(
        lambda s: noise.Convention(noise="real").to_es_n0_db(s),
        (X,),
        0,
        "noise.Convention.to_es_n0_db",
    ),
    Row(
        lambda s: noise.Convention(noise="real").from_es_n0_db(s),
        (X,),
        0,
        "noise.Convention.from_es_n0_db",
    ),
    Row(
        lambda snr: packet_loss.Outage().arrivals(KEY, 3, 4, snr),
        (ONE,),
        0,
        "packet_loss.Outage.arrivals",
        skip=DRAWN,
        nan=False,
    ),
    Row(
        lambda distance, carrier: path_loss.free_space(distance, Hertz(carrier)),
        (X, CARRIER),
        (0, 1),
        "path_loss.free_space",
    ),
    Row(
        lambda distance, exponent, loss: path_loss.log_distance(
            distance, exponent, Db(loss)
        ),
        (10 * X, ONE, ONE),
        (0, 1, 2),
        "path_loss.log_distance",
    ),
    Row(
        lambda llrs: polar_decoders.belief_propagation(CODE, llrs, 5),
        (LLRS,),
        0,
        "polar_decoders.belief_propagation",
    ),
    Row(
        lambda llrs: polar_decoders.successive_cancellation(CODE, llrs),
        (LLRS,),
        0,
        "polar_decoders.successive_cancellation",
        nan="any",
    ),
    Row(
        power.normalise,
        (TABLE, MASK),
        mask=1,
        inf="nan",
        ninf="nan",
        grad="zero tiny huge",
    ),
    Row(
        lambda h: precoding.mode_powers(precoding.Eigenmodes(None, h, None), ONE),
        (X,),
        0,
        "precoding.mode_powers",
        skip="empty",
    ),
    Row(lambda x: quantisers.uniform(x, 3), (X,), 0, "quantisers.uniform"),
    Row(
        lambda x: quantisers.dithered(KEY, x, 3),
        (X,),
        0,
        "quantisers.dithered",
        skip=f"{DRAWN} float16 bfloat16",
    ),
    Row(quantisers.straight_through, (X, X)),
    Row(
        lambda snr, n: rate_adaptation.block_errors(MCS, snr, n),
        (ONE, 100 * ONE),
        (0, 1),
        "rate_adaptation.block_errors",
        ninf="any",
    ),
    Row(
        lambda snr, n: rate_adaptation.choose(MCS, snr, n),
        (ONE, 100 * ONE),
        (0, 1),
        "rate_adaptation.choose",
        ninf="any",
    ),
    Row(
        lambda s: shadowing.draw(KEY, Db(s), (3,)),
        (ONE,),
        0,
        "shadowing.draw",
        skip=DRAWN,
    ),
    Row(
        lambda x, moved, s, d: shadowing.step(KEY, Db(x), moved, Db(s), d),
        (X, X, ONE, ONE),
        (0, 1, 2, 3),
        "shadowing.step",
        skip=DRAWN,
    ),
    Row(
        lambda moved, s, d: shadowing.along_path(KEY, moved, Db(s), d),
        (X, ONE, ONE),
        (0, 1, 2),
        "shadowing.along_path",
        skip=DRAWN,
        inf="any",
        ninf="any",
    ),
    Row(
        lambda x, s, d: shadowing.correlated(KEY, x, Db(s), d),
        (TABLE, ONE, ONE),
        (0, 1, 2),
        "shadowing.correlated",
        skip=DRAWN,
        inf="any",
        ninf="any",
    ),
    Row(
        lambda x, no: soft_bits.exact_llr(x, no, 4),
        (Z, HALF),
        (0, 1),
        "soft_bits.exact_llr",
    ),
    Row(
        lambda x, no: soft_bits.max_log_llr(x, no, 4),
        (Z, HALF),
        (0, 1),
        "soft_bits.max_log_llr",
    ),
    Row(
        lambda x, no: soft_bits.axis_llr(x, no, 4),
        (X, HALF),
        (0, 1),
        "soft_bits.axis_llr",
    ),
    Row(soft_bits.decide, (X,), nan="any"),
    Row(
        lambda x: soft_bits.modulate(x, 4),
        (TABLE,),
        0,
        "soft_bits.modulate",
        grad="inf ninf",
    ),
    Row(
        lambda x: soft_bits.straight_through_modulate(x, 4),
        (TABLE,),
        0,
        "soft_bits.straight_through_modulate",
    ),
    Row(
        lambda snr, k: theory.bit_error_rate(snr, 4, k),
        (ONE, ONE),
        (0, 1),
        "theory.bit_error_rate",
        ninf="any",
    ),
    Row(
        lambda snr, k: theory.symbol_error_rate(snr, 4, k),
        (ONE, ONE),
        (0, 1),
        "theory.symbol_error_rate",
        ninf="any",
    ),
    Row(topology.distance_2d, (TABLE, TABLE[::-1]), (0, 1)),
    Row(topology.distance_3d, (X, ONE), (0, 1)),
    Row(
        lambda d, f: tr38901.UMI.los(d, Hertz(f)),
        (100 * X, CARRIER),
        (0, 1),
        "tr38901.Scenario.los",
        ninf="any",
    ),
    Row(
        lambda d, f: tr38901.UMI.nlos(d, Hertz(f)),
        (100 * X, CARRIER),
        (0, 1),
        "tr38901.Scenario.nlos",
        ninf="any",
    ),
    Row(
        lambda d, f: tr38901.UMI.path_loss(d, MASK, Hertz(f)),
        (100 * X, CARRIER),
        (0, 1),
        "tr38901.Scenario.path_loss",
        skip="empty one",
        ninf="any",
    ),
    Row(
        lambda d, f: tr38901.UMI.expected_path_loss(d, Hertz(f)),
        (100 * X, CARRIER),
        (0, 1),
        "tr38901.Scenario.expected_path_loss",
        inf="any",
        ninf="any",
    ),
    Row(
        lambda d: tr38901.UMI.los_probability(d),
        (100 * X,),
        0,
        "tr38901.Scenario.los_probability",
        ninf="any",
    ),
    Row(
        lambda d: tr38901.UMI.draw_los(KEY, d),
        (100 * X,),
        0,
        "tr38901.Scenario.draw_los",
        skip=DRAWN,
        nan="any",
    ),
    Row(
        lambda f: tr38901.UMI.breakpoint_distance(Hertz(f)),
        (CARRIER,),
        0,
        "tr38901.Scenario.breakpoint_distance",
    ),
    Row(unequal_protection.allocate_power, (X, MASK, ONE), (0, 2), mask=1, inf="any"),
    Row(
        lambda w, m, snr: unequal_protection.allocate_mcs(w, m, snr, MCS, 8, 40),
        (X, MASK, ONE),
        (0, 2),
        "unequal_protection.allocate_mcs",
        mask=1,
        inf="any",
    ),
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
    "codebook.lookup": "integer indices",
    "codebook.to_bits": "integer indices",
    "codebook.from_bits": "bits",
    "codebook.perplexity": "integer indices",
    "arq.ARQ.simulate": "draws by the failures of a row; NaN below",
    "awgn.AWGN.generate": "a key in, gains out",
    "bit_channels.BSC.generate": "a key in, numbers out",
    "bit_channels.BEC.generate": "a key in, numbers out",
    "csi.NoCSI.estimate": "takes shapes only",
    "doppler.GaussMarkov.generate": "a key in, gains out",
    "doppler.Jakes.generate": "a key in, gains out",
    "fading.RayleighBlock.generate": "a key in, gains out",
    "fading.RicianBlock.generate": "a key in, gains out",
    "fading.check_number": "settings",
    "link_budget.LinkBudget.describe": "host only",
    "links.analog.AnalogLink.init": "nothing learned",
    "links.digital.DigitalLink.init": "nothing learned",
    "links.erasure.ErasureLink.init": "a key in, numbers out",
    "links.vq.VQLink.init": "a key in, numbers out",
    "links.vq.VQLink.fit": "host only, NumPy",
    "links.bit_pipe.BitPipe.send": "bits; reached through the links",
    "links.config.LinkConfig.make": "settings",
    "links.make.make_link": "settings",
    "links.contract.*": "reached through the links",
    "links.transmission.*": "reached through the links",
    "mimo.draw": "a key in, gains out",
    "mimo.exponential_correlation": "a setting",
    "mobility.draw_velocities": "a key in, numbers out",
    "modulation.axis_labels": "settings",
    "modulation.axis_levels": "settings",
    "modulation.bits_per_symbol": "settings",
    "modulation.num_axes": "settings",
    "modulation.modulate": "bits",
    "modulation.level": "integer labels",
    "modulation.to_axes": "a change of form",
    "modulation.from_axes": "a change of form",
    "noise.complex_normal": "a key in, numbers out",
    "packet_loss.IndependentLoss.arrivals": "a setting",
    "packet_loss.channel_uses": "counts; exact fractions below",
    "packet_loss.check": "settings",
    "polar.*": "settings and bits",
    "precoding.eigenmodes": "a singular value decomposition",
    "precoding.precode": "products with unitary matrices",
    "precoding.combine": "products with unitary matrices",
    "quantisers.check": "settings",
    "quantisers.dequantise": "integer indices",
    "quantisers.dither": "a key in, numbers out",
    "topology.annulus": "a key in, positions out",
    "topology.hexagon": "a key in, positions out",
    "topology.hexagonal_sites": "settings",
    "tr38901.Scenario.check_range": "host only",
    "tr38901.Scenario.correlation_distance": "bools",
    "tr38901.Scenario.shadowing_std": "bools",
    "tr38901.Scenario.draw_environment_height": "a key in, heights out",
    "unequal_protection.Powered.generate": "a key in, gains out",
    "unequal_protection.Powered.apply": "as the channel below it",
}


# What takes half a second and more to compile: slow tests only.
SLOW = {
    "arq.chase_rayleigh",
    "awgn.AWGN.apply",
    "csi.PilotCSI.estimate",
    "fading.FlatFading.apply",
    "links.analog.AnalogLink",
    "links.digital.DigitalLink",
    "links.erasure.ErasureLink",
    "links.vq.VQLink",
    "m3jax.channels.finite_blocklength.snr",
    "m3jax.channels.unequal_protection.allocate_power",
    "noise.add_noise",
    "polar_decoders.belief_propagation",
    "rate_adaptation.block_errors",
    "rate_adaptation.choose",
    "shadowing.along_path",
    "shadowing.correlated",
    "shadowing.step",
    "unequal_protection.allocate_mcs",
}


@pytest.mark.parametrize("row", [r for r in ROWS if r.covers not in SLOW], ids=str)
def test_edges(row):
    check(row, dtypes=["uint8"], quick=True)


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS, ids=str)
def test_edges_in_every_type(row):
    check(row, dtypes=DTYPES)


def test_every_function_has_a_row_or_a_reason():
    assert completeness.missing(channels, [row.covers for row in ROWS], EXEMPT) == []
