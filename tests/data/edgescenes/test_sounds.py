"""What is heard is what was played, read off the spectrogram."""

import numpy as np
import pytest
from sklearn import neighbors

from m3jax.data.edgescenes import sounds, words

EDGES = (395.0, 900.0)  # Hz, between low, middle and high
HOP = 125  # samples from frame to frame


@pytest.fixture(scope="module")
def played():
    """Sounds at 25 dB with their power spectrograms, [64 frames, 40 mels]."""
    rng = np.random.default_rng(0)
    out = []
    for _ in range(500):
        timbre, pitch, notes = rng.integers((5, 3, 5))
        sound = sounds.Sound(int(timbre), int(pitch), 1 + int(notes))
        out.append((sound, np.exp(sounds.spectrogram(sound, 25.0, rng) / 0.4)))
    return out


def mel_centres():
    """Centre frequencies of the mel bands in Hz, by the textbook formula."""
    low, high = 2595 * np.log10(1 + np.array([80.0, sounds.RATE / 2]) / 700)
    mels = np.linspace(low, high, sounds.MELS + 2)[1:-1]
    return 700 * (10 ** (mels / 2595) - 1)


def test_the_strongest_band_tells_the_pitch(played):
    centres, right = mel_centres(), {timbre: [] for timbre in words.TIMBRES}
    for sound, power in played:
        timbre = words.TIMBRES[sound.timbre]
        peak = centres[power.mean(axis=0).argmax()]
        if timbre == "whistle":  # glides up from its pitch; the others stay there
            loud = power.max(axis=1) > 0.1 * power.max()
            peak = centres[power.argmax(axis=1)][loud].min()
        right[timbre].append(np.digitize(peak, EDGES) == sound.pitch)
    assert np.mean(right.pop("drum")) > 0.9  # noise in a band, so not as sharp
    assert all(np.all(values) for values in right.values())


def test_as_many_notes_stand_out_as_were_played(played):
    """A second has six slots; a note is far louder than the noise in an empty one."""
    for sound, power in played:
        level = np.log(power.sum(axis=1))
        samples = HOP * (len(power) - 1) + 256
        starts = np.arange(6) * (samples // 6)
        slots = [
            level[int(np.ceil(at / HOP)) : (at + samples // 6 - 256) // HOP + 1].max()
            for at in starts
        ]
        assert np.sum(np.array(slots) > max(slots) - 3) == sound.num_notes


def test_timbres_can_be_told_apart_at_every_pitch(played):
    """Neighbours of the spectrum and of the decay, both without pitch and level."""
    features, labels = [], []
    for sound, power in played:
        loud = power[power.sum(1) > 0.3 * power.sum(1).max()]
        spectrum = np.log(power.max(axis=0) / power.max())
        spectrum = np.roll(spectrum, -int(loud.mean(axis=0).argmax()))
        length = len(loud) / sound.num_notes
        features.append([*spectrum, *[2 * length] * 3])
        labels.append(sound.timbre)
    classifier = neighbors.KNeighborsClassifier(3)
    classifier.fit(features[:350], labels[:350])
    assert classifier.score(features[350:], labels[350:]) > 0.85


@pytest.mark.parametrize("snr_db", [-5.0, 5.0, 25.0])
def test_the_noise_has_the_power_that_is_asked_for(monkeypatch, snr_db):
    """Notes have unit power at full level, so noise has that of 1 / SNR."""
    monkeypatch.setattr(sounds, "_log_mel", lambda wave: wave)
    sound = sounds.Sound(timbre=4, pitch=1, num_notes=3)
    noisy, clean = (
        sounds.spectrogram(sound, level, np.random.default_rng(2)).astype(np.float64)
        for level in (snr_db, np.inf)
    )
    noise = np.mean((noisy - clean) ** 2)
    assert 10 * np.log10(1 / noise) == pytest.approx(snr_db, abs=0.3)
    loud = np.abs(clean) > 0
    assert 0.6**2 * 0.8 < np.mean(clean[loud] ** 2) < 1.05


def test_values_are_of_about_unit_scale_in_steps_that_store_well(played):
    rng = np.random.default_rng(1)
    sound = sounds.Sound(0, 0, 3)
    values = [sounds.spectrogram(sound, level, rng) for level in (5.0, 15.0, 25.0)]
    values = np.stack(values)
    assert values.dtype == np.float32 and values.shape[1:] == (64, 40)
    np.testing.assert_array_equal(values * 8, np.round(values * 8))
    assert abs(values.mean()) < 1 and 0.3 < values.std() < 2
