"""Small models that the build writes; their places are in the environment (see run_tests.sh)."""

import os
from pathlib import Path

import numpy as np
import pytest

import mpq


@pytest.fixture(scope="session")
def tiny() -> Path:
    return Path(os.environ["MPQ_TINY"])


@pytest.fixture(scope="session")
def header() -> Path:
    return Path(os.environ["MPQ_HEADER"])


@pytest.fixture(scope="session")
def pixels(tiny) -> np.ndarray:
    return np.fromfile(tiny.with_suffix(".input"), np.uint8).reshape(1, 17, 15, 3)


@pytest.fixture(scope="session")
def expected(tiny) -> np.ndarray:
    """Of the naive interpreter, not of the library."""
    return np.fromfile(tiny.with_suffix(".expected"), np.float32).reshape(1, -1)


@pytest.fixture
def model(tiny):
    with mpq.Model(tiny) as opened:
        yield opened


@pytest.fixture
def text_model():
    with mpq.Model(os.environ["MPQ_TEXT"]) as opened:
        yield opened
