"""One-second sounds and their log-mel spectrograms.

A sound is some notes of one timbre and pitch in background noise. Notes are made once
per process and mixed, so a spectrogram costs about one short-time Fourier transform.
"""

import functools
from typing import NamedTuple

import numpy as np

from m3jax.data.edgescenes import words

RATE = 8_000  # samples/s
FRAMES, MELS = 64, 40
_WINDOW, _HOP = 256, 125
_SAMPLES = (FRAMES - 1) * _HOP + _WINDOW
_NOTE = int(0.13 * RATE)
_SLOT = _SAMPLES // 6
_FREQUENCIES = {  # Hz; the bands stand apart, so "low" never blends into "middle"
    "low": (220.0, 247.0, 277.0, 311.0),
    "middle": (494.0, 554.0, 622.0, 698.0),
    "high": (1109.0, 1245.0, 1397.0, 1568.0),
}
MAX_NOTES = 5


class Sound(NamedTuple):
    """What is heard: ids into words.TIMBRES and words.PITCHES, and the note count."""

    timbre: int
    pitch: int
    num_notes: int


def spectrogram(sound: Sound, snr_db: float, rng: np.random.Generator) -> np.ndarray:
    """Log-mel spectrogram, float32 [64 frames, 40 mels], of a sound at an SNR in dB.

    Values are scaled to about zero mean and unit scale and rounded to 1/8, which keeps
    the stored benchmark small.
    """
    note = _notes()[sound.timbre, sound.pitch, rng.integers(4)]
    wave = np.zeros(_SAMPLES, np.float32)
    slots = np.sort(rng.permutation(6)[: sound.num_notes])
    for slot in slots:
        at = slot * _SLOT + rng.integers(_SLOT - _NOTE)
        wave[at : at + _NOTE] += note * rng.uniform(0.6, 1.0)
    noise = _noise()
    at = rng.integers(len(noise) - _SAMPLES)
    wave += noise[at : at + _SAMPLES] * 10.0 ** (-snr_db / 20.0)
    return _log_mel(wave)


@functools.cache
def _notes() -> np.ndarray:
    """Unit-power notes, float32 [timbre, pitch, 4, samples]."""
    t = np.arange(_NOTE) / RATE
    rng = np.random.default_rng(0)
    out = np.empty((len(words.TIMBRES), 3, 4, _NOTE), np.float32)
    for i, pitch in enumerate(words.PITCHES):
        for j, frequency in enumerate(_FREQUENCIES[pitch]):
            for k, timbre in enumerate(words.TIMBRES):
                wave = _wave(timbre, frequency, t, rng)
                out[k, i, j] = wave / np.sqrt(np.mean(wave**2))
    return out


def _wave(timbre: str, frequency: float, t: np.ndarray, rng) -> np.ndarray:
    """One note; each timbre differs in partials, envelope or glide."""
    phase = 2 * np.pi * frequency * t
    attack = np.minimum(1.0, t / 0.01) * np.minimum(1.0, (t[-1] - t) / 0.01)
    if timbre == "bell":  # inharmonic partials that ring out
        partials = np.sin(phase) + 0.7 * np.sin(2.76 * phase)
        return np.exp(-t / 0.03) * partials
    if timbre == "drum":  # narrow-band noise, struck
        noise = np.convolve(rng.standard_normal(len(t)), np.hanning(41), "same")
        return np.exp(-t / 0.02) * noise * np.cos(phase)
    if timbre == "horn":  # all harmonics, held
        return attack * sum(np.sin(k * phase) / k for k in range(1, 6))
    if timbre == "whistle":  # a glide up
        return attack * np.sin(phase * (1 + 0.6 * t / t[-1]))
    return attack * np.sin(phase)  # flute: nearly pure


@functools.cache
def _noise() -> np.ndarray:
    return np.random.default_rng(1).standard_normal(1 << 18).astype(np.float32)


@functools.cache
def _mel_matrix() -> np.ndarray:
    """Triangular mel filters, float32 [frequency bins, mels]."""
    bins = np.fft.rfftfreq(_WINDOW, 1 / RATE)
    to_mel = lambda f: 2595.0 * np.log10(1.0 + f / 700.0)  # noqa: E731
    edges = np.linspace(to_mel(80.0), to_mel(RATE / 2), MELS + 2)
    mel = to_mel(bins)[:, None]
    rise = (mel - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - mel) / (edges[2:] - edges[1:-1])
    filters = np.maximum(0.0, np.minimum(rise, fall))
    nearest = np.argmin(np.abs(mel - edges[1:-1]), axis=0)
    filters[nearest, np.arange(MELS)] += 0.1  # no filter falls between two bins
    return filters.astype(np.float32)


@functools.cache
def _frame_index() -> np.ndarray:
    return np.arange(FRAMES)[:, None] * _HOP + np.arange(_WINDOW)


@functools.cache
def _hann() -> np.ndarray:
    return np.hanning(_WINDOW).astype(np.float32)


def _log_mel(wave: np.ndarray) -> np.ndarray:
    frames = wave[_frame_index()] * _hann()
    spectrum = np.fft.rfft(frames, axis=-1)
    power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)
    scaled = (np.log(power @ _mel_matrix() + 1e-2) - 2.0) * 0.4
    return np.round(scaled * 8.0).astype(np.float32) / 8.0
