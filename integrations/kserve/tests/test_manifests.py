"""The manifests: against KServe's schema, against the program they start, and with KServe's client."""

import asyncio
import copy
import os
import signal
from pathlib import Path

import mpq
import numpy as np
import pytest
import serving
import yaml
from schema import problems

FOLDER = Path(__file__).resolve().parent.parent
RUNTIME, SERVICE = (yaml.safe_load((FOLDER / f"{name}.yaml").read_text()) for name in ("serving-runtime", "inference-service"))
TINY = Path(os.environ["MPQ_TINY"])


def container():
    return RUNTIME["spec"]["containers"][0]


@pytest.mark.parametrize("manifest", [RUNTIME, SERVICE], ids=["runtime", "service"])
def test_kserve_knows_every_key(manifest):
    assert problems(manifest) == []


def changed(manifest, path, value):
    """A copy with one place changed; value None: taken out."""
    copied = copy.deepcopy(manifest)
    place = copied
    for step in path[:-1]:
        place = place[step]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return copied


@pytest.mark.parametrize("manifest, path, value", [
    (RUNTIME, ["spec", "containers"], None),
    (RUNTIME, ["spec", "container"], []),
    (RUNTIME, ["spec", "protocolVersions"], "v2"),
    (RUNTIME, ["spec", "annotations", "prometheus.kserve.io/port"], 8002),
    (RUNTIME, ["spec", "supportedModelFormats", 0, "autoselect"], True),
    (RUNTIME, ["spec", "supportedModelFormats", 0, "version"], 1),
    (RUNTIME, ["spec", "containers", 0, "name"], None),
    (RUNTIME, ["spec", "containers", 0, "args", 2], 8080),
    (RUNTIME, ["spec", "containers", 0, "readinessProbe", "httpget"], {}),
    (RUNTIME, ["spec", "containers", 0, "readinessProbe", "httpGet", "port"], None),
    (RUNTIME, ["spec", "containers", 0, "ports", 0, "containerPort"], "8080"),
    (RUNTIME, ["spec", "containers", 0, "securityContext", "runAsNonRoot"], "yes"),
    (RUNTIME, ["apiVersion"], "serving.kserve.io/v1beta1"),
    (SERVICE, ["spec", "predictor"], None),
    (SERVICE, ["spec", "predictor", "model", "modelFormat"], None),
    (SERVICE, ["spec", "predictor", "model", "storageURI"], "pvc://models"),
    (SERVICE, ["spec", "predictor", "minReplicas"], "two"),
], ids=lambda value: ".".join(map(str, value)) if isinstance(value, list) else None)
def test_mistakes_are_found(manifest, path, value):
    assert problems(changed(manifest, path, value))


def test_the_two_belong_together():
    model = SERVICE["spec"]["predictor"]["model"]
    assert model["runtime"] == RUNTIME["metadata"]["name"]
    assert any(model["modelFormat"].items() <= known.items() for known in RUNTIME["spec"]["supportedModelFormats"])
    assert model["protocolVersion"] in RUNTIME["spec"]["protocolVersions"]
    # Draining and the last answers must fit into the time that Kubernetes gives.
    seconds = sum(int(argument.split("=")[1]) for argument in container()["args"] if argument.endswith(("-secs=5", "-secs=20")))
    assert seconds == 25 < SERVICE["spec"]["predictor"]["terminationGracePeriodSeconds"]


def test_the_container_serves_as_kserve_and_kubernetes_ask(tmp_path):
    """The container's own command line, with other addresses and another folder; its probes; KServe's client."""
    from kserve import InferInput, InferenceRESTClient, InferRequest, RESTConfig
    name = SERVICE["metadata"]["name"]
    serving.put_model(tmp_path / "models", name, TINY)
    outside = {"/mnt/models": str(tmp_path / "models"), "--http-address=0.0.0.0": "--http-address=127.0.0.1",
               "--http-port=8080": "--http-port=0", "--metrics-port=8002": "--metrics-port=0"}
    assert outside.keys() <= set(container()["args"]) and container()["command"] == ["mpqserve"]
    repository, *options = [outside.get(argument, argument) for argument in container()["args"]]
    options = [o for o in options if not o.startswith(("--http-address", "--http-port"))]  # serving.Server's own
    with serving.Server(repository, *options) as server:
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            asked = container()[probe]["httpGet"]
            assert asked["port"] == container()["ports"][0]["containerPort"]
            assert server.request("GET", asked["path"])[0] == 200
        metrics = RUNTIME["spec"]["annotations"]["prometheus.kserve.io/path"]
        assert server.request("GET", metrics, port=server.facts["metrics_port"])[0] == 200

        image = np.fromfile(TINY.with_suffix(".input"), np.uint8).reshape(1, 17, 15, 3)
        with mpq.Model(TINY) as model:
            tensor = InferInput(model.inputs[0].name, list(image.shape), "UINT8")
        tensor.set_data_from_numpy(image, binary_data=True)
        client = InferenceRESTClient(RESTConfig(protocol="v2"))

        answer = asyncio.run(client.infer(f"http://{server.address}", InferRequest(name, [tensor], request_id="9"), model_name=name))
        assert answer.id == "9" and answer.model_name == name
        assert answer.outputs[0].as_numpy().tobytes() == TINY.with_suffix(".expected").read_bytes()

        server.process.send_signal(signal.SIGTERM)  # not ready within what the readiness probe allows, then gone
        assert serving.wait_until(lambda: server.request("GET", container()["readinessProbe"]["httpGet"]["path"])[0] == 503, 2)
        assert server.process.wait(SERVICE["spec"]["predictor"]["terminationGracePeriodSeconds"]) == 0


