#!/usr/bin/env python3
"""MLPerf LoadGen over the Python package: SingleStream, MultiStream, Server, Offline.

    loadgen.py MODEL --scenario offline [--batch 8] [--threads 0] [--instances 1] [--seconds 10] [--qps N]
    loadgen.py MODEL --mode accuracy ...     every sample once; checks each answer against a run by itself

Samples are random (images, or token ids of --tokens); LoadGen decides when and which are asked for.
Its own logs and summary go to --output; the summary is printed, too. This measures the harness of MLPerf
Inference on this machine; it is no submission.
"""

import argparse
import array
import queue
import sys
import tempfile
import threading
import time
from pathlib import Path

import mlperf_loadgen as lg
import mpq
import numpy as np

SCENARIOS = {"singlestream": lg.TestScenario.SingleStream, "multistream": lg.TestScenario.MultiStream,
             "server": lg.TestScenario.Server, "offline": lg.TestScenario.Offline}


class Network:
    """Random samples of a model, and sessions that answer them."""

    def __init__(self, path, options):
        self.model = mpq.Model(path)
        self.options = options
        random = np.random.default_rng(options.seed)
        if self.model.sequence_length:
            length = min(options.tokens, self.model.sequence_length)
            self.samples = [random.integers(0, self.model.vocabulary_size, length, np.int32)
                            for _ in range(options.samples)]
        else:
            spec = self.model.inputs[0]
            if spec.dtype == np.float32:
                self.samples = list(random.standard_normal((options.samples, *spec.shape[1:]), np.float32))
            else:
                self.samples = list(random.integers(0, 256, (options.samples, *spec.shape[1:]), np.uint8))

    def sessions(self):
        """The sessions of one instance by batch: powers of two, so that no run is filled up."""
        by_batch = {}
        batch = self.options.batch
        while batch:
            by_batch[batch] = self.model.session(batch=batch, threads=self.options.threads, isa=self.options.isa)
            if self.model.sequence_length:
                break  # one session takes any number of sequences
            batch //= 2
        return by_batch

    def answer(self, sessions, indices):
        """The first output's row of each sample, as bytes."""
        rows = []
        while len(rows) < len(indices):
            left = len(indices) - len(rows)
            if self.model.sequence_length:
                take, session = min(left, self.options.batch), next(iter(sessions.values()))
                outputs = session.run_sequences([self.samples[i] for i in indices[len(rows):][:take]])[0]
            else:
                take = max(b for b in sessions if b <= left)
                outputs = sessions[take].run(np.stack([self.samples[i] for i in indices[len(rows):][:take]]))[0]
            per = outputs.shape[0] // take
            rows += [outputs[i * per:(i + 1) * per].tobytes() for i in range(take)]
        return rows


class Sut:
    """Takes queries into a queue; each instance's thread answers as many as wait, up to a batch."""

    def __init__(self, network, check):
        self.network = network
        self.waiting = queue.SimpleQueue()
        self.expected = None
        self.wrong = self.answered = 0
        if check:
            one = {1: network.model.session(batch=1, threads=1)}
            self.expected = [network.answer(one, [i])[0] for i in range(len(network.samples))]
        self.threads = [threading.Thread(target=self._serve, args=(network.sessions(),), daemon=True)
                        for _ in range(network.options.instances)]
        for thread in self.threads:
            thread.start()

    def issue(self, queries):
        for query in queries:
            self.waiting.put((query.id, query.index))

    def flush(self):
        pass

    def stop(self):
        for _ in self.threads:
            self.waiting.put(None)
        for thread in self.threads:
            thread.join()

    def _serve(self, sessions):
        while (first := self.waiting.get()) is not None:
            batch = [first]
            while len(batch) < self.network.options.batch:
                try:
                    query = self.waiting.get_nowait()
                except queue.Empty:
                    break
                if query is None:
                    self.waiting.put(None)
                    break
                batch.append(query)
            rows = self.network.answer(sessions, [index for _, index in batch])
            responses, keep = [], []
            for (identity, index), row in zip(batch, rows):
                if self.expected is not None and row != self.expected[index]:
                    self.wrong += 1
                data = array.array("B", row)
                address, _ = data.buffer_info()
                keep.append(data)
                responses.append(lg.QuerySampleResponse(identity, address, len(row)))
            self.answered += len(batch)
            lg.QuerySamplesComplete(responses)


def settings_of(options, network):
    settings = lg.TestSettings()
    settings.scenario = SCENARIOS[options.scenario]
    settings.mode = (lg.TestMode.AccuracyOnly if options.mode == "accuracy" else lg.TestMode.PerformanceOnly)
    settings.min_duration_ms = int(options.seconds * 1000)
    settings.max_duration_ms = int(options.seconds * 1000) + 60000
    settings.min_query_count = options.queries
    rate = options.qps
    if not rate and options.mode == "performance":  # LoadGen wants to know what to expect
        sessions = network.sessions()
        indices = list(range(min(options.batch, len(network.samples))))
        network.answer(sessions, indices)
        seconds = []
        for _ in range(10):
            start = time.perf_counter()
            network.answer(sessions, indices)
            seconds.append(time.perf_counter() - start)
        # Offline's one query is as large as this says, and must last as long as was asked for.
        rate = len(indices) / min(seconds) * (2.0 if options.scenario == "offline" else 0.5)
    rate = rate or 100.0
    settings.offline_expected_qps = rate
    settings.server_target_qps = rate
    settings.server_target_latency_ns = int(options.latency_ms * 1e6)
    # How many queries are made ahead: enough for a machine that becomes four times as fast on the way.
    settings.single_stream_expected_latency_ns = int(1e9 / rate / 4)
    settings.multi_stream_expected_latency_ns = int(8e9 / rate / 4)
    return settings


def main(argv=None):
    parser = argparse.ArgumentParser(description="MLPerf LoadGen over mpq")
    parser.add_argument("model")
    parser.add_argument("--scenario", choices=SCENARIOS, default="singlestream")
    parser.add_argument("--mode", choices=("performance", "accuracy"), default="performance")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--instances", type=int, default=1)
    parser.add_argument("--isa")
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--queries", type=int, default=1, help="at least so many")
    parser.add_argument("--qps", type=float, default=0, help="expected (offline) or asked for (server); 0: measured")
    parser.add_argument("--latency-ms", type=float, default=100, help="server: what 99 %% of queries may take")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", help="folder of LoadGen's logs")
    options = parser.parse_args(argv)

    network = Network(options.model, options)
    sut = Sut(network, options.mode == "accuracy")
    output = options.output or tempfile.mkdtemp(prefix="loadgen-")
    Path(output).mkdir(parents=True, exist_ok=True)
    log = lg.LogSettings()
    log.log_output.outdir = output
    log.log_output.copy_summary_to_stdout = options.mode == "performance"
    settings = settings_of(options, network)
    handle = lg.ConstructSUT(sut.issue, sut.flush)
    library = lg.ConstructQSL(len(network.samples), len(network.samples), lambda _: None, lambda _: None)
    lg.StartTestWithLogSettings(handle, library, settings, log)
    lg.DestroyQSL(library)
    lg.DestroySUT(handle)
    sut.stop()
    print(f"{network.model.name}: {sut.answered} answers, logs in {output}")
    if options.mode == "accuracy":
        print(f"{sut.wrong} differ from a run by itself")
        return 1 if sut.wrong or sut.answered < len(network.samples) else 0
    summary = (Path(output) / "mlperf_log_summary.txt").read_text()
    return 0 if "Result is : VALID" in summary else 1


if __name__ == "__main__":
    sys.exit(main())
