"""What mpqrun says: the answers that every way of serving must give, byte by byte. And real networks, where MPQ_MODELS names files."""

import os
import subprocess
import tempfile
from pathlib import Path

import mpq
import numpy as np
import pytest


def by_mpqrun(model, sample):
    """[(output, array)] of one image (an array) or one text; of texts, mpqrun saves the first output."""
    with tempfile.TemporaryDirectory() as folder, mpq.Model(model) as opened:
        names = [output.name for output in opened.outputs]
        given = sample
        if not isinstance(sample, str):
            given = f"{folder}/in.npy"
            np.save(given, sample)
        one = isinstance(sample, str) or len(names) == 1
        saved = f"{folder}/out.{'npy' if one else 'npz'}"
        subprocess.run([os.environ["MPQRUN"], model, "-i", given, "--save", saved, "-q"], check=True, stdout=subprocess.DEVNULL)
        if one:
            return [(names[0], np.load(saved))]
        with np.load(saved) as outputs:
            return [(name, outputs[name]) for name in names]


def images(model, count, seed=7):
    """[(image, by_mpqrun)] of random images."""
    with mpq.Model(model) as opened:
        spec = opened.inputs[0]
    samples = np.random.default_rng(seed).integers(0, 256, (count, 1, *spec.shape[1:]), np.uint8)
    return [(sample, by_mpqrun(model, sample)) for sample in samples]


def texts(model, samples):
    return [(sample, by_mpqrun(model, sample)) for sample in samples]


def of_real_network(model):
    with mpq.Model(model) as opened:
        takes_text = opened.takes_text
    if not takes_text:
        return images(model, 4)
    return texts(model, ["A man is eating.", "A man eats food while a woman plays the violin in the street.", "No.",
                         "The quick brown fox jumps over the lazy dog; nobody has asked it why, and nobody ever will."])


REAL_NETWORKS = pytest.mark.parametrize("model", [Path(m) for m in os.environ.get("MPQ_MODELS", "").split(":") if m] or [
    pytest.param(None, marks=pytest.mark.skip(reason="real networks: MPQ_MODELS names no files"))], ids=lambda m: m and m.stem)
