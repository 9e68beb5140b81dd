#!/usr/bin/env python3
"""Times mpq beside OpenVINO and ONNX Runtime int8: whole networks, one machine, one interleaved run.

Every contender is a process of its own that holds one compiled network and answers "time k runs"
(peer_worker for mpq, peer_process.py for the others). The parent asks them in turn, round after round,
so that a drift of the machine meets all of them; the minimum and the median over all rounds are
reported, and the ratio of the fastest peer to each.

The peers run the network that their own users would: ONNX, quantised to 8 bit by ONNX Runtime's tools
(peer_networks.py).

  bench/peers.py --model w4a4=resnet50_w4a4.fb --threads 1,2 --batch 1,16 --markdown table.md
  bench/peers.py --network bert-base --tokens 128,384 --model w4a8=w4a8.fb --no-amx
"""
import argparse
import io
import itertools
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time

import machine
import peer_networks

HERE = os.path.dirname(os.path.abspath(__file__))


class Contender:
    """A process that times runs on demand."""

    def __init__(self, name, command, isa=None):
        self.name, self.times = name, []
        self.process = subprocess.Popen(command, env=os.environ | ({"MPQ_ISA": isa} if isa else {}), text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.version = json.loads(self.line())["version"]

    def line(self):
        text = self.process.stdout.readline()
        if not text:
            sys.exit(f"peers: {self.name}: stopped with status {self.process.wait()}")
        return text

    def turn(self, runs, counted):
        self.process.stdin.write(f"{runs}\n")
        self.process.stdin.flush()
        times = json.loads(self.line())
        if counted:
            self.times += times

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def idle_and_all():
    with open("/proc/stat", encoding="ascii") as stat:
        ticks = [int(word) for word in stat.readline().split()[1:9]]
    return ticks[3] + ticks[4], sum(ticks)


def settle(patience):
    """Lets the pools of the contender before stop spinning; then waits up to `patience` s for a machine at rest."""
    time.sleep(0.05)
    end = time.monotonic() + patience
    while time.monotonic() < end:
        idle, total = idle_and_all()
        time.sleep(0.1)
        idle, total = (after - before for after, before in zip(idle_and_all(), (idle, total)))
        if idle >= 0.9 * total:
            return


def start(options, threads, batch, tokens):
    isa = "avx512vnni" if options.no_amx else None
    for entry in options.model:
        name, path = entry.split("=", 1)
        command = [options.worker, path, str(threads), str(batch)] + ([str(tokens)] if tokens else [])
        yield Contender("mpq " + name, command, isa)
    for entry in options.peers or peer_networks.PEERS[options.network]:
        runtime, form = entry.split(":", 1)
        spec = {"runtime": runtime, "network": options.network, "threads": threads, "batch": batch, "tokens": tokens,
                "no_amx": options.no_amx, "model": peer_networks.int8_model(options.network, form, options.cache)}
        command = [sys.executable, os.path.join(HERE, "peer_process.py"), json.dumps(spec)]
        yield Contender(f"{runtime} int8 {form}", command)


def contest(options, threads, batch, tokens):
    """All contenders in turn, `rounds` times; times per image or sequence in milliseconds."""
    contenders = list(start(options, threads, batch, tokens))
    for contender in contenders:
        contender.turn(max(3, options.runs), counted=False)
    for _ in range(options.rounds):
        for contender in contenders:
            settle(options.patience)
            contender.turn(1, counted=False)
            contender.turn(options.runs, counted=True)
    rows = []
    for contender in contenders:
        contender.close()
        each = [t / batch / 1e6 for t in contender.times]
        rows.append({"name": contender.name, "version": contender.version, "tokens": tokens, "threads": threads,
                     "batch": batch, "runs": len(each), "min_ms": min(each), "median_ms": statistics.median(each),
                     "times_ms": [round(t, 4) for t in each]})
    best = {key: min(r[key] for r in rows if not r["name"].startswith("mpq")) for key in ("min_ms", "median_ms")}
    for row in rows:
        row["ratio_min"] = best["min_ms"] / row["min_ms"]
        row["ratio_median"] = best["median_ms"] / row["median_ms"]
    return rows


def markdown(rows, facts):
    columns = ["tokens", "threads", "batch"] if rows[0]["tokens"] else ["threads", "batch"]
    unit = "sequence" if rows[0]["tokens"] else "image"
    limit = "; AMX refused to the peers, ours at AVX-512 VNNI" if facts["no_amx"] else ""
    table = [["network", *columns, "min ms", "median ms", "ratio (min)", "ratio (median)"],
             ["---", *["---:"] * (len(columns) + 4)]]
    table += [[f"{r['name']} ({r['version']})", *(str(r[c]) for c in columns),
               *(f"{r[c]:.2f}" for c in ("min_ms", "median_ms", "ratio_min", "ratio_median"))] for r in rows]
    lines = ["{date}, commit {commit}, {cpu}, {cores} cores, {system}.".format(**facts), "",
             f"{facts['network']}{limit}. Milliseconds per {unit}; ratio = fastest int8 peer / this,"
             " above 1 is faster than every peer.", ""]
    return "\n".join(lines + ["| " + " | ".join(cells) + " |" for cells in table]) + "\n"


def plot(rows, facts, path):
    """A bar for the least time of each network, a tick at its median; a panel for each case."""
    try:
        from matplotlib import pyplot, rcParams  # pylint: disable=import-outside-toplevel
    except ImportError:
        sys.exit("peers: --plot: needs matplotlib")
    rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "mpq"})
    cases = [list(group) for _, group in itertools.groupby(rows, lambda r: (r["tokens"], r["batch"], r["threads"]))]
    figure, panels = pyplot.subplots(len(cases), squeeze=False, figsize=(8, sum(1 + 0.3 * len(c) for c in cases)),
                                     layout="constrained", height_ratios=[3 + len(c) for c in cases])
    for panel, case in zip(panels[:, 0], cases):
        names = [f"{r['name']} ({r['ratio_min']:.2f})" for r in case]
        panel.barh(names, [r["min_ms"] for r in case],
                   color=["tab:blue" if r["name"].startswith("mpq") else "tab:gray" for r in case])
        panel.plot([r["median_ms"] for r in case], names, "k|")
        panel.invert_yaxis()
        tokens = f"{case[0]['tokens']} tokens, " if case[0]["tokens"] else ""
        panel.set_title(f"{tokens}batch {case[0]['batch']}, threads: {case[0]['threads']}", loc="left")
    panels[-1, 0].set_xlabel("least ms (| median); in brackets: speed, the fastest int8 peer = 1")
    figure.suptitle("{network}, {date}, commit {commit}".format(**facts) + (", without AMX" if facts["no_amx"] else ""))
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    with open(path, "w", encoding="utf-8") as out:
        out.writelines(line.rstrip() + "\n" for line in text.getvalue().splitlines())


def numbers(text):
    return [int(word) for word in text.split(",")]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--model", action="append", default=[], metavar="NAME=FILE", help="an mpq model; repeatable")
    parser.add_argument("--network", choices=sorted(peer_networks.PEERS), default="resnet50", help="what the peers run")
    parser.add_argument("--peers", type=lambda text: text.split(","), metavar="RUNTIME:FORM,...",
                        help="openvino or onnxruntime, with qdq, qdq-all or dynamic (default: all of the network)")
    parser.add_argument("--worker", default="build/bench/peer_worker", help="the program that runs mpq models")
    parser.add_argument("--cache", default=os.path.join(tempfile.gettempdir(), "mpq-peers"),
                        help="where the peers' ONNX files are kept")
    parser.add_argument("--threads", type=numbers, default=[1, 2], metavar="1,2")
    parser.add_argument("--batch", type=numbers, default=[1], metavar="1,16")
    parser.add_argument("--tokens", type=numbers, metavar="128,384", help="of a sequence (default for encoders: 128)")
    parser.add_argument("--no-amx", action="store_true", help="AVX-512 VNNI at most, for all")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--runs", type=int, default=3, help="counted runs of a contender in a round")
    parser.add_argument("--patience", type=float, default=0, metavar="S",
                        help="wait up to S seconds before each turn until others leave the machine alone")
    parser.add_argument("--json", help="write all numbers here, every time among them")
    parser.add_argument("--plot", help="draw them here (SVG; needs matplotlib)")
    parser.add_argument("--markdown", help="write the table here too")
    options = parser.parse_args()
    if options.network in peer_networks.RESNETS:
        if options.tokens:
            parser.error(f"{options.network} takes images: no --tokens")
        options.tokens = [0]
    options.tokens = options.tokens or [128]

    os.makedirs(options.cache, exist_ok=True)
    command = shlex.join(sys.argv).replace(os.path.expanduser("~"), "~")
    facts = machine.facts() | {"network": options.network, "no_amx": options.no_amx, "command": command}
    rows = []
    for tokens, batch, threads in itertools.product(options.tokens, options.batch, options.threads):
        rows += contest(options, threads, batch, tokens)
    text = markdown(rows, facts)
    print(text, end="")
    if options.json:
        with open(options.json, "w", encoding="ascii") as out:
            json.dump({"schema_version": 1, **facts, "rows": rows}, out)
    if options.markdown:
        with open(options.markdown, "w", encoding="ascii") as out:
            out.write(text)
            if options.plot:
                place = os.path.relpath(options.plot, os.path.dirname(options.markdown) or ".")
                out.write(f"\n![The same as bars]({place})\n")
    if options.plot:
        plot(rows, facts, options.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
