"""A repository of small models that the build writes, and a server on it."""

import io
import os
import subprocess
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

import serving

HAS_GRPC = "without gRPC" not in subprocess.run([os.environ["MPQSERVE"], "--version"], capture_output=True,
                                                text=True, check=True).stdout
TINY, TEXT = Path(os.environ["MPQ_TINY"]), Path(os.environ["MPQ_TEXT"])


@pytest.fixture(scope="session")
def pixels():
    return np.fromfile(TINY.with_suffix(".input"), np.uint8).reshape(1, 17, 15, 3)


@pytest.fixture(scope="session")
def expected():
    """Of the naive interpreter, not of the library."""
    return np.fromfile(TINY.with_suffix(".expected"), np.float32).reshape(1, -1)


@pytest.fixture(scope="session")
def picture():
    """A JPEG of 60 x 40 pixels, by Pillow."""
    image = PIL.Image.effect_noise((60, 40), 80).convert("RGB")
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90)
    return file.getvalue()


@pytest.fixture(scope="session")
def picture_expected(picture):
    """Decoded, resized and cut by Pillow as the model says; then the model by itself."""
    import mpq
    with mpq.Model(TINY) as model, model.session() as session:
        spec = model.image_preprocess
        image = PIL.Image.open(io.BytesIO(picture)).convert("RGB")
        assert spec.resize == 1 and not spec.crop_only_small  # bilinear
        scale = spec.resize_shorter / min(image.size)
        image = image.resize([int(side * scale) for side in image.size], PIL.Image.Resampling.BILINEAR)
        left, top = round((image.width - spec.crop_w) / 2), round((image.height - spec.crop_h) / 2)
        image = image.crop((left, top, left + spec.crop_w, top + spec.crop_h))
        return session.run(np.asarray(image)[None])[0]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    repository = tmp_path_factory.mktemp("models")
    patient = {"dynamic_batching": {"default_queue_policy": {"default_timeout_microseconds": 0}}}
    serving.put_model(repository, "tiny", TINY, config=patient)
    serving.put_model(repository, "text", TEXT, config=patient)
    grpc = ["--grpc-port", "0"] if HAS_GRPC else []
    with serving.Server(repository, "--metrics-port", "0", *grpc, "--log-requests") as running:
        yield running
        assert running.stop() == 0


@pytest.fixture(scope="session")
def names():
    """Names of the small model's input and outputs, from its file."""
    import mpq
    with mpq.Model(TINY) as model, mpq.Model(TEXT) as text:
        return {"input": model.inputs[0].name, "outputs": [o.name for o in model.outputs],
                "text_outputs": [o.name for o in text.outputs]}
