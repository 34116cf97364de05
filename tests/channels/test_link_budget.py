import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.channels import awgn, link_budget, links, topology, tr38901
from m3jax.ops.quantities import Db, Dbm, Hertz, Joule, Ratio, Watt
from m3jax.testing import gradients

pytestmark = pytest.mark.usefixtures("quick_compilation")

ITEMS = {
    "tx_power": Dbm(23.0),
    "bandwidth": Hertz(20e6),
    "path_loss": Db(110.0),
    "tx_gain": Db(8.0),
    "rx_gain": Db(-2.0),
    "shadowing": Db(3.5),
    "noise_figure": Db(7.0),
}
# kT_0 = 1.380649e-23 * 290 = 4.003882e-21 W/Hz = -173.97518 dBm/Hz; 20 MHz: 73.0103 dB.
RECEIVED_DBM = 23.0 + 8.0 - 2.0 - 110.0 - 3.5
NOISE_DBM = -173.97518 + 73.0103 + 7.0


def test_thermal_noise_is_minus_174_dbm_in_each_hertz():
    noise = link_budget.thermal_noise(Hertz(1.0), Db(0.0)).to_dbm()
    assert float(noise.value) == pytest.approx(-173.97518, abs=1e-4)
    bands = link_budget.thermal_noise(Hertz(jnp.array([180e3, 1e6])), Db(5.0)).to_dbm()
    np.testing.assert_allclose(bands.value, [-116.4225, -108.9752], atol=1e-3)


def test_a_noise_figure_adds_the_noise_of_290_kelvin_whatever_the_antenna_sees():
    """3.0103 dB doubles the noise at 290 K, and makes 20 K into 310 K."""
    double = Db(10.0 * np.log10(2.0))
    for antenna, system in ((290.0, 580.0), (20.0, 310.0)):
        noise = link_budget.thermal_noise(Hertz(1e6), double, antenna)
        # Not approx: its absolute tolerance of 1e-12 is above all of this.
        np.testing.assert_allclose(noise.value, 1.380649e-17 * system, rtol=1e-5)


def test_the_budget_equals_one_by_hand():
    budget = link_budget.LinkBudget(**ITEMS)
    assert float(budget.received.value) == pytest.approx(RECEIVED_DBM, abs=1e-4)
    assert float(budget.noise.to_dbm().value) == pytest.approx(NOISE_DBM, abs=1e-4)
    snr_db = RECEIVED_DBM - NOISE_DBM
    assert float(budget.snr_db) == pytest.approx(snr_db, abs=1e-4)
    assert float(budget.snr.value) == pytest.approx(10.0 ** (snr_db / 10.0), rel=1e-4)
    assert float(budget.sinr_db) == float(budget.snr_db)  # there is no interference


def test_interference_adds_to_the_noise_in_watts():
    """Two interferers, each as strong as the noise, cost 10 log10 3."""
    noise = link_budget.LinkBudget(**ITEMS).noise.value
    interference = Watt(jnp.stack([noise, noise])).sum()
    budget = link_budget.LinkBudget(**ITEMS, interference=interference)
    lost = budget.snr_db - budget.sinr_db
    assert float(lost) == pytest.approx(10.0 * np.log10(3.0), abs=1e-4)
    ratio = float((budget.snr / budget.sinr).value)
    assert ratio == pytest.approx(3.0, rel=1e-4)


def test_energy_is_power_over_rate_and_the_snr_is_es_over_n0():
    budget = link_budget.LinkBudget(**ITEMS)
    per_symbol = 1e-3 * 10.0**2.3 / 20e6
    np.testing.assert_allclose(budget.energy_per_symbol.value, per_symbol, rtol=1e-5)
    np.testing.assert_allclose(
        budget.energy_per_bit(4).value, per_symbol / 4, rtol=1e-5
    )
    density = budget.noise / budget.bandwidth
    es_over_n0 = budget.received.to_w() / budget.bandwidth / density
    assert float(es_over_n0.value) == pytest.approx(float(budget.snr.value), rel=1e-4)


def test_a_link_takes_the_snr_and_its_energy_becomes_joules(key):
    budget = link_budget.LinkBudget(**ITEMS)
    link = jax.jit(links.AnalogLink(awgn.AWGN()))
    values = jax.random.normal(key, (3, 4))
    out = link(key, values, jnp.ones(3, bool), budget.snr_db)
    by_hand = link(
        key, values, jnp.ones(3, bool), jnp.float32(RECEIVED_DBM - NOISE_DBM)
    )
    np.testing.assert_allclose(out.values, by_hand.values, atol=1e-4)
    joules = out.energy * budget.energy_per_symbol
    assert isinstance(joules, Joule)
    # Unit mean power: as much energy as there are symbols.
    expected = float(out.channel_uses) * float(budget.energy_per_symbol.value)
    np.testing.assert_allclose(joules.value, expected, rtol=1e-5)


def downlink(user, sites, tx_power, bandwidth):
    """The first site serves a user of UMa, the others disturb."""
    distance = topology.distance_2d(user, sites)
    loss = tr38901.UMA.nlos(distance, Hertz(2e9)).value
    interference = (tx_power - Db(loss[1:])).to_w().sum()
    return link_budget.LinkBudget(
        tx_power=tx_power,
        bandwidth=bandwidth * 1e6,
        path_loss=Db(loss[0]),
        noise_figure=Db(9.0),
        interference=interference,
    )


def test_budgets_pass_through_jit_and_vmap():
    users = jnp.array([[40.0, 0.0], [0.0, 90.0], [-120.0, 60.0], [20.0, -240.0]])
    sites = topology.hexagonal_sites(1, 289.0)
    args = sites, Dbm(46.0), Hertz(10.0)
    mapped = jax.jit(jax.vmap(downlink, (0, None, None, None)))(users, *args)
    assert isinstance(mapped, link_budget.LinkBudget) and mapped.sinr_db.shape == (4,)
    third = jax.tree.map(lambda item: item[2], mapped)
    alone = downlink(users[2], *args)
    for one in (third, alone):
        assert float(one.sinr_db) == pytest.approx(float(mapped.sinr_db[2]), abs=1e-3)
    assert (mapped.sinr_db < mapped.snr_db).all()


def test_gradients_by_position_power_and_bandwidth_equal_finite_differences():
    sites = np.asarray(topology.hexagonal_sites(1, 289.0), np.float64)

    @jax.jit
    def loss(user, sites, tx_power, bandwidth):
        budget = downlink(user, sites, tx_power, bandwidth)
        return budget.sinr_db + budget.snr_db + jnp.log(budget.sinr.value)

    args = np.array([90.0, -60.0]), sites, Dbm(20.0), Hertz(10.0)
    gradients.check_against_finite_differences(loss, args, rtol=1e-4)


def test_float32_gradients_survive_the_faintest_link():
    """1 kHz at 250 dB: watts near 1e-25, whose squares float32 does not hold."""

    def loss(items):
        return link_budget.LinkBudget(**items, interference=Watt(1e-18)).sinr_db

    items = ITEMS | {"path_loss": Db(250.0), "bandwidth": Hertz(1e3)}
    items = jax.tree.map(jnp.float32, items)
    grads = jax.grad(loss)(items)
    gradients.assert_finite(grads, "gradients")
    assert float(grads["path_loss"].value) == pytest.approx(-1.0, rel=1e-5)
    noise = 1.380649e-23 * 290.0 * 1e3 * 10.0**0.7
    by_band = -10.0 / np.log(10.0) * noise / (noise + 1e-18) / 1e3
    assert float(grads["bandwidth"].value) == pytest.approx(by_band, rel=1e-4)


def test_the_description_adds_up():
    budget = link_budget.LinkBudget(**ITEMS, interference=Watt(1e-12))
    found = re.findall(r"^(.) (\w.*?) +(\S+) (\S+)$", budget.describe(), re.M)
    signs = {"+": 1.0, "-": -1.0, " ": 1.0}
    total, sums = 0.0, {}
    for sign, name, value, _ in found:
        if sign == "=":
            assert float(value) == pytest.approx(total, abs=0.03)
            sums[name] = float(value)
        else:
            total = signs[sign] * float(value) + (0.0 if sign == " " else total)
    assert sums == {"received power": RECEIVED_DBM, "noise power": -93.96}
    rows = {name: (value, unit) for _, name, value, unit in found}
    assert rows["SNR"] == ("9.46", "dB")
    assert rows["interference"] == ("-90.00", "dBm")
    assert rows["energy per symbol"] == ("9.98e-09", "J")
    assert "interference" not in link_budget.LinkBudget(**ITEMS).describe()


def test_a_description_of_many_links_is_refused():
    many = ITEMS | {"path_loss": Db(jnp.array([90.0, 100.0]))}
    with pytest.raises(ValueError, match="one link"):
        link_budget.LinkBudget(**many).describe()


@pytest.mark.parametrize(
    ("name", "item", "message"),
    [
        ("tx_power", Watt(0.2), r"tx_power must be Dbm, got Watt; .*\.to_dbm\(\)"),
        ("tx_power", 23.0, r"tx_power must be Dbm.*write Dbm\(\.\.\.\)"),
        ("path_loss", Ratio(1e-11), r"path_loss must be Db, got Ratio; .*\.to_db\(\)"),
        ("bandwidth", 20e6, "bandwidth must be Hertz"),
        ("interference", Dbm(-90.0), r"interference must be Watt.*\.to_w\(\)"),
        ("noise_figure", jnp.float32(7.0), "noise_figure must be Db"),
    ],
)
def test_an_item_of_another_kind_is_refused_by_name(name, item, message):
    with pytest.raises(TypeError, match=message):
        link_budget.LinkBudget(**(ITEMS | {name: item}))
    if name in ("bandwidth", "noise_figure"):
        args = {"bandwidth": Hertz(1.0), "noise_figure": Db(1.0)} | {name: item}
        with pytest.raises(TypeError, match=message):
            link_budget.thermal_noise(**args)
