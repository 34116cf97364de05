import pytest

from m3jax.channels import bit_channels, csi, doppler, fading, links, packet_loss


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, links.AnalogLink(fading.RayleighBlock())),
        (
            {"fading": "rician", "k_db": 3.0, "block_length": 4},
            links.AnalogLink(fading.RicianBlock(3.0, 4)),
        ),
        (
            {"fading": "gauss_markov", "correlation": 0.5, "block_length": 4},
            links.AnalogLink(doppler.GaussMarkov(0.5, 4)),
        ),
        (
            {"fading": "jakes", "doppler": 0.1, "num_paths": 8, "block_length": 4},
            links.AnalogLink(doppler.Jakes(0.1, 4, 8)),
        ),
        (
            {"csi": "pilots", "pilot_snr_db": 5.0, "num_pilots": 3},
            links.AnalogLink(fading.RayleighBlock(), csi.PilotCSI(5.0, 3)),
        ),
        ({"csi": "none"}, links.AnalogLink(fading.RayleighBlock(), csi.NoCSI())),
        (
            {"kind": "digital", "bits": 3, "dither": True, "symbol_energy": 0.5},
            links.DigitalLink(
                fading.RayleighBlock(), 3, dither=True, symbol_energy=0.5
            ),
        ),
        (
            {"kind": "vq", "num_codewords": 8, "group_size": 2, "commitment": 0.5},
            links.VQLink(fading.RayleighBlock(), 8, 2, commitment=0.5),
        ),
        ({"kind": "bsc"}, links.DigitalLink(bit_channels.BSC(fading="rayleigh"))),
        (
            {"kind": "bsc", "fading": "jakes", "block_length": 1, "probability": 0.1},
            links.DigitalLink(bit_channels.BSC(0.1)),
        ),
        ({"kind": "bec"}, links.DigitalLink(bit_channels.BEC())),
        (
            {"kind": "bec", "fading": "awgn", "probability": 0.1},
            links.DigitalLink(bit_channels.BEC(0.1)),
        ),
        (
            {"kind": "erasure", "block_length": 9, "rate": 2.0, "bits": None},
            links.ErasureLink(packet_loss.Outage(fading.RayleighBlock(9), 2.0)),
        ),
        (
            {
                **{"kind": "erasure", "probability": 0.1, "imputation": "mean"},
                **{"tokens_per_packet": 2, "bits": 3, "limit": 2.0},
            },
            links.ErasureLink(packet_loss.IndependentLoss(0.1), 3, 2.0, "mean", 2),
        ),
    ],
)
def test_plain_settings_make_the_link_they_name(settings, expected):
    link = links.make_link(**settings)
    assert link == expected and hash(link) == hash(expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "smoke"}, "link kind must be one of .*'smoke'"),
        ({"fading": "fog"}, "fading must be one of .*'fog'"),
        ({"csi": "some"}, "csi must be one of .*'some'"),
        ({"block_length": 0}, "block_length"),
        ({"fading": "jakes"}, "'jakes' changes .* block_length must be a positive"),
        ({"fading": "gauss_markov"}, "'gauss_markov' changes .* block_length must be"),
        ({"fading": "jakes", "block_length": 1, "doppler": -1.0}, "doppler"),
        ({"fading": "jakes", "block_length": 1, "num_paths": 0}, "num_paths"),
        ({"fading": "gauss_markov", "block_length": 1, "correlation": 2.0}, "correl"),
        ({"fading": "rician", "k_db": float("nan")}, "k_db"),
        ({"csi": "pilots", "num_pilots": 0}, "num_pilots"),
        ({"csi": "pilots", "pilot_snr_db": float("nan")}, "pilot_snr_db"),
        ({"kind": "digital", "bits": 0}, "bits per value"),
        ({"kind": "digital", "qam_order": 8}, "order must be one of"),
        ({"kind": "digital", "limit": -1.0}, "limit"),
        ({"kind": "vq", "num_codewords": 3}, "num_codewords"),
        ({"kind": "bsc", "fading": "rician"}, "a BSC takes its crossover"),
        ({"kind": "bsc", "probability": 1.5}, "crossover must be a probability"),
        ({"kind": "bec", "fading": "awgn"}, "a bec takes the probability"),
        ({"kind": "bec", "probability": -0.1}, "erasure must be a probability"),
        ({"kind": "erasure", "rate": 0.0}, "rate must be positive"),
        ({"kind": "erasure", "probability": 2.0}, "loss probability"),
        ({"kind": "erasure", "imputation": "guess"}, "imputation"),
        ({"kind": "erasure", "tokens_per_packet": 0}, "tokens_per_packet"),
        ({"symbol_energy": -1.0}, "symbol_energy"),
    ],
)
def test_wrong_settings_are_refused_before_anything_runs(settings, message):
    with pytest.raises(ValueError, match=message):
        links.make_link(**settings)
