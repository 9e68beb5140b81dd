"""mpqserve behind HAProxy and nginx: draining, dying, coming back, without a request lost."""

import json
import re
import shutil
import signal
import time

import machines
import mpq
import numpy as np
import pytest
import reference
import serving
from conftest import TINY
from machines import NAMES, Load, Machine, Proxy, server_name, status_of

KINDS = [pytest.param(kind, marks=pytest.mark.skipif(shutil.which(kind) is None, reason=f"no {kind} (Debian: {package})"))
         for kind, package in (("haproxy", "haproxy"), ("nginx", "nginx-light"))]
# No limit of time in the queue: what a busy machine cannot do in a second it may do later.
CONFIG = {"parameters": {"threads": 1}, "dynamic_batching": {"default_queue_policy": {"default_timeout_microseconds": 0}}}
NO_RETRIES = {"haproxy": lambda text: re.sub(r"retry-on .*|option redispatch .*", "", text).replace("retries 3", "retries 0"),
              "nginx": lambda text: re.sub(r"proxy_next_upstream .*;", "proxy_next_upstream off;", text)}


@pytest.fixture(scope="module")
def names():
    with mpq.Model(TINY) as model:
        return {"input": model.inputs[0].name, "outputs": [o.name for o in model.outputs]}


@pytest.fixture(scope="module")
def cases(names):
    """[(inputs, bytes of the first output)]: eight images, by mpqrun."""
    found = [({names["input"]: image}, answer[0][1].tobytes()) for image, answer in reference.images(TINY, 8)]
    assert len({answer for _, answer in found}) == len(found)
    return found


@pytest.fixture
def fleet(tmp_path):
    repository = tmp_path / "models"
    serving.put_model(repository, "tiny", TINY, config=CONFIG)
    running = {name: Machine(name, repository, tmp_path / f"{name}.log") for name in NAMES}
    yield running
    for machine in running.values():
        if machine.process.poll() is None:
            machine.stop()


@pytest.fixture
def start_proxy(tmp_path):
    started = []

    def start(kind, edit=None):
        started.append(Proxy(kind, tmp_path, edit))
        return started[-1]
    yield start
    for proxy in started:
        proxy.stop()


def used(answers):
    return {server_name(answer) for answer in answers}


@pytest.mark.parametrize("kind", KINDS)
def test_requests_go_to_all_servers_and_come_back_right(kind, fleet, start_proxy, cases, names):
    start_proxy(kind)
    load = Load(cases, names)
    load.wait_for_answers(400)
    load.stop()
    assert load.problems() == []
    assert used(load.answers) == set(NAMES)


@pytest.mark.parametrize("kind", KINDS)
def test_sigterm_loses_nothing_and_a_new_server_takes_over(kind, fleet, start_proxy, cases, names):
    proxy = start_proxy(kind)
    load = Load(cases, names)
    for name in NAMES:
        load.wait_for_answers(50)
        fleet[name].process.send_signal(signal.SIGTERM)
        if kind == "haproxy":  # sees that it is not ready while it still serves
            assert serving.wait_until(lambda: proxy.haproxy()[name]["status"].startswith("DOWN"))
            assert fleet[name].process.poll() is None
        assert fleet[name].process.wait(60) == 0  # 1 would say that requests were left
        gone = time.monotonic()
        load.wait_for_answers(50)
        assert name not in used(load.since(gone)) and len(used(load.since(gone))) == 2
        fleet[name].start()
        back = time.monotonic()
        assert serving.wait_until(lambda: name in used(load.since(back)))
    load.stop()
    load.report(proxy)
    assert load.problems() == []
    for name in NAMES:
        assert '"event":"stopped"' in fleet[name].log.read_text()


def kill_while_it_holds_requests(machine, load):
    """Stopped first, so that requests wait there for certain; then killed."""
    load.wait_for_answers(50)
    machine.process.send_signal(signal.SIGSTOP)
    time.sleep(0.7)
    machine.stop(signal.SIGKILL)


@pytest.mark.parametrize("kind", KINDS)
def test_requests_of_a_killed_server_go_to_another(kind, fleet, start_proxy, cases, names):
    proxy = start_proxy(kind)
    load = Load(cases, names)
    for name in NAMES:
        kill_while_it_holds_requests(fleet[name], load)
        gone = time.monotonic()
        load.wait_for_answers(50)
        assert name not in used(load.since(gone))
        fleet[name].start()
        back = time.monotonic()
        assert serving.wait_until(lambda: name in used(load.since(back)))
    load.stop()
    load.report(proxy)
    assert load.problems() == []
    assert proxy.resent(load.answers) >= len(NAMES)


@pytest.mark.parametrize("kind", KINDS)
def test_without_retries_the_clients_see_a_killed_server(kind, fleet, start_proxy, cases, names):
    start_proxy(kind, NO_RETRIES[kind])
    load = Load(cases, names)
    kill_while_it_holds_requests(fleet["mpq2"], load)
    load.wait_for_answers(50)
    load.stop()
    assert any("status 502" in problem or "status 503" in problem for problem in load.problems())


@pytest.mark.parametrize("kind", KINDS)
def test_nobody_waits_when_no_server_is_left(kind, fleet, start_proxy, cases, names):
    start_proxy(kind)
    for machine in fleet.values():
        machine.stop()
    body, headers = serving.infer_body(names, cases[0][0])
    start = time.monotonic()
    assert status_of("/v2/models/tiny") in (502, 503)
    assert time.monotonic() - start < 30
    fleet["mpq1"].start()
    assert serving.wait_until(lambda: status_of("/v2/models/tiny") == 200)


@pytest.mark.parametrize("kind", KINDS)
def test_a_request_of_many_images_is_sent_again_as_a_whole(kind, fleet, start_proxy, cases, names):
    many = np.concatenate([inputs[names["input"]] for inputs, _ in cases])
    many = np.tile(many, (125, 1, 1, 1))  # 1000 images, 765 kB
    assert 700_000 < many.nbytes < 1 << 20
    answer = b"".join(expected for _, expected in cases) * 125
    (fleet["mpq1"].repository / "tiny" / "config.json").write_text(json.dumps({**CONFIG, "max_batch_size": 1000}))
    for machine in fleet.values():
        machine.stop()
        machine.start()
    proxy = start_proxy(kind)
    load = Load([({names["input"]: many}, answer)], names, threads=6)
    load.wait_for_answers(6)
    fleet["mpq3"].process.send_signal(signal.SIGSTOP)
    time.sleep(0.7)
    fleet["mpq3"].stop(signal.SIGKILL)
    load.wait_for_answers(12)
    load.stop()
    assert load.problems() == []
    assert proxy.resent(load.answers) >= 1


@pytest.mark.skipif(shutil.which("haproxy") is None, reason="no haproxy (Debian: haproxy)")
def test_haproxy_sends_nothing_to_a_server_that_is_not_ready(fleet, start_proxy, tmp_path, cases, names):
    broken = tmp_path / "broken"
    shutil.copytree(fleet["mpq1"].repository, broken)
    serving.put_model(broken, "none", TINY.with_suffix(".input"))  # no model: alive, not ready, and "tiny" works
    fleet["mpq1"].stop()
    fleet["mpq1"].repository = broken
    fleet["mpq1"].start()
    assert status_of("/v2/health/ready", machines.ADDRESSES["mpq1"], 8000) == 503
    assert status_of("/v2/models/tiny/ready", machines.ADDRESSES["mpq1"], 8000) == 200
    proxy = start_proxy("haproxy")
    assert serving.wait_until(lambda: proxy.haproxy()["mpq1"]["status"] == "DOWN")
    load = Load(cases, names)
    load.wait_for_answers(200)
    load.stop()
    assert load.problems() == []
    assert used(load.answers) == {"mpq2", "mpq3"}


def test_wrong_and_lost_answers_are_found(fleet, start_proxy, cases, names):
    start_proxy("haproxy" if shutil.which("haproxy") else "nginx")
    wrong = [(inputs, expected[:-1] + bytes([expected[-1] ^ 1])) for inputs, expected in cases]
    load = Load([*cases[:4], *wrong[4:]], names)
    load.wait_for_answers(40)
    load.stop()
    assert sum("wrong answer" in problem for problem in load.problems()) == sum(not a.right for a in load.answers) >= 16
    load.answers.pop()
    assert any("answers" in problem for problem in load.problems())
