"""Every scenario of LoadGen on small models; a wrong answer must be found."""

import os

import pytest

import loadgen

TINY, TEXT = os.environ["MPQ_TINY"], os.environ["MPQ_TEXT"]


@pytest.mark.parametrize("scenario", loadgen.SCENARIOS)
def test_performance_runs_are_valid(scenario, tmp_path):
    options = {"server": ["--qps", "400", "--latency-ms", "5000", "--queries", "800"],  # LoadGen wants 459 for a p99,
               "offline": []}.get(scenario, ["--queries", "800"])                       # 662 of 8 in MultiStream
    assert loadgen.main([TINY, "--scenario", scenario, "--seconds", "1", "--batch", "8", "--threads", "1",
                         "--output", str(tmp_path), *options]) == 0
    summary = (tmp_path / "mlperf_log_summary.txt").read_text()
    assert "Result is : VALID" in summary and "No errors encountered" in summary


@pytest.mark.parametrize("model", [TINY, TEXT])
@pytest.mark.parametrize("instances", ["1", "2"])
def test_answers_in_batches_are_those_of_single_runs(model, instances, tmp_path, capsys):
    assert loadgen.main([model, "--mode", "accuracy", "--scenario", "offline", "--batch", "8", "--instances", instances,
                         "--tokens", "5", "--output", str(tmp_path)]) == 0
    assert "0 differ" in capsys.readouterr().out


def test_a_wrong_answer_is_found(monkeypatch, tmp_path, capsys):
    right = loadgen.Network.answer

    def wrong_in_batches(self, sessions, indices):
        rows = right(self, sessions, indices)
        return rows if 1 in sessions and len(sessions) == 1 else [bytes([rows[0][0] ^ 1]) + rows[0][1:], *rows[1:]]

    monkeypatch.setattr(loadgen.Network, "answer", wrong_in_batches)
    assert loadgen.main([TINY, "--mode", "accuracy", "--scenario", "offline", "--batch", "8",
                         "--output", str(tmp_path)]) == 1
    assert "0 differ" not in capsys.readouterr().out
