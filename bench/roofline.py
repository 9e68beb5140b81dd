#!/usr/bin/env python3
"""Where the time of a network goes: each layer's time beside its floor, as a Markdown page.

The method is the roofline (Williams, Waterman and Patterson, 2009) with two levels of memory. A layer cannot take
less than its multiply-adds at the measured peak of the instruction set, nor less than its bytes: its weights at the
speed of reading a block as large as all weights together, which is how a run meets them, and its activations at that
of a block which stays in L2. The floor is the larger; the time is the least of many runs, layer by layer.

  bench/roofline.py --mpqrun build/runtime/cli/mpqrun --isa amx,avx512vnni resnet50_w4a4.fb > page.md
  bench/roofline.py --seq-len 128 --runs 20 --keep profiles.json w4a4.fb      # again: adds 20 runs to those kept
"""
import argparse
import json
import os
import re
import subprocess
import sys
import time

import machine

L2_BLOCK = 1 << 20

# What a layer is, by the first expression found in "op name"; the names are torchvision's and Hugging Face's.
CLASSES = [("first layers", r"^image_quantize|^conv2d conv1$|^max_pool"),
           ("1x1, shortcut", r"^conv2d .*downsample"),
           ("1x1, reduce", r"^conv2d .*conv1$"),
           ("3x3", r"^conv2d .*conv2$"),
           ("1x1, expand, with residual", r"^conv2d .*conv3$"),
           ("embedding", r"^embedding"),
           ("normalisation", r"^layer_norm"),
           ("attention", r"^attention"),
           ("query, key and value", r"^linear .*qkv"),
           ("attention's output, with residual", r"^linear .*attention\.output"),
           ("feed-forward up, with GELU", r"^linear .*intermediate"),
           ("feed-forward down, with residual", r"^linear .*output\.dense"),
           ("pool and classifier", r"^avg_pool|^linear (fc|classifier|pooler)|^pool")]


def class_of(layer):
    text = f"{layer['op']} {layer['name']}"
    return next((name for name, form in CLASSES if re.search(form, text)), layer["op"])


def read_bandwidth(size, seconds=0.5):
    """Bytes per second of one core that reads the same `size` bytes again and again (memchr), the best of many."""
    block = bytearray(b"\2") * size
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        block.find(b"\1")
        best = min(best, time.perf_counter() - start)
    return size / best


def rows_of(profiles, info):
    """Layers in the order of the network: least time of all profiles (ns), macs, bytes of weights and activations."""
    facts = {layer["name"]: layer for layer in info["layers"]}
    rows = []
    for index, layer in enumerate(profiles[0]["layers"]):
        least = min((p["layers"][index] for p in profiles), key=lambda l: l["time_ns"])
        fact = facts.get(layer["name"], {"weights": 0, "weight_bits": 0, "shape": []})
        weights = min(layer["bytes"], fact["weights"] * fact["weight_bits"] // 8)  # a table is not read whole
        rows.append({"name": layer["name"], "class": class_of(layer), "kernel": least["kernel"], "macs": layer["macs"],
                     "time_ns": least["time_ns"], "weights": weights, "activations": layer["bytes"] - weights})
    return rows


def add_floors(rows, peak, weights_rate, activations_rate):
    """Floors in ns: by operations per second and bytes per second."""
    for row in rows:
        row["compute_ns"] = 2e9 * row["macs"] / peak
        row["memory_ns"] = 1e9 * (row["weights"] / weights_rate + row["activations"] / activations_rate)
        row["floor_ns"] = max(row["compute_ns"], row["memory_ns"])
    return rows


def total_of(rows, **more):
    keys = ("macs", "weights", "activations", "compute_ns", "memory_ns", "floor_ns", "time_ns")
    return {key: sum(row[key] for row in rows) for key in keys} | more


def table(first, rows, whole_ns=0):
    """Cells of a Markdown table; with the time of the whole, the class's part of it and its time over the floor."""
    columns = [first, "MMAC", "weights kB", "activations kB", "floor us", "set by", "us", "floor / time"]
    lines = [columns + (["part of the whole", "us over the floor"] if whole_ns else ["kernel"]),
             ["---", *["---:"] * 4, "---", *["---:"] * 2, *(["---:"] * 2 if whole_ns else ["---"])]]
    for row in rows:
        by = "multiplies" if row["compute_ns"] >= row["memory_ns"] else "bytes"
        floor = row["floor_ns"]
        cells = [row["name"], f"{row['macs'] / 1e6:.1f}", f"{row['weights'] / 1e3:.0f}",
                 f"{row['activations'] / 1e3:.0f}", f"{floor / 1e3:.1f}", by if floor else "",
                 f"{row['time_ns'] / 1e3:.1f}", f"{100 * floor / max(row['time_ns'], 1):.0f} %" if floor else ""]
        if whole_ns:
            cells += [f"{100 * row['time_ns'] / whole_ns:.1f} %", f"{(row['time_ns'] - floor) / 1e3:.0f}"]
        else:
            cells += [row.get("kernel", "")]
        lines.append(cells)
    return "".join("| " + " | ".join(cells) + " |\n" for cells in lines)


def section(isa, kept, info):
    """One instruction set: facts, the classes, the layers."""
    profiles = kept["profiles"][isa]
    peak = max(p["peak_ops_per_second"] for p in profiles)
    rows = add_floors(rows_of(profiles, info), peak, kept["weights_rate"], kept["activations_rate"])
    total = total_of(rows, name="all layers")
    whole = min(p["run_ns"]["min"] for p in profiles)
    between = max(0, min(p["run_ns"]["median"] - p["steps_ns"] for p in profiles))
    nothing = dict.fromkeys(total, 0)
    names = list(dict.fromkeys(row["class"] for row in rows))
    classes = [total_of([r for r in rows if r["class"] == name], name=name) for name in names]
    classes.append(nothing | {"name": "between steps", "time_ns": between})
    classes.sort(key=lambda row: row["floor_ns"] - row["time_ns"])
    total["time_ns"] += between
    total["name"] = "the whole"
    return f"""
## {profiles[0]['configuration']['isa']}

{len(profiles)} runs. Peak {peak / 1e12:.2f} TOPS; {2e-9 * total['macs']:.2f} GOP.
Time: {total['time_ns'] / 1e6:.2f} ms (the least of every layer and of the time between them, added; fastest whole run
{whole / 1e6:.2f} ms), {2e-3 * total['macs'] / total['time_ns']:.2f} TOPS, \
{100 * total['compute_ns'] / total['time_ns']:.0f} % of the peak.
Floor: {total['floor_ns'] / 1e6:.2f} ms, {100 * total['floor_ns'] / total['time_ns']:.0f} % of the time.

Where the rest goes:

{table('class', classes + [total], total['time_ns'])}
Layers:

{table('layer', rows)}"""


def page(kept, info):
    tokens = kept["tokens"]
    sequence = f", {tokens} tokens" if tokens else ""
    layers = ", ".join(f"{facts['layers']} {bits}" for bits, facts in info["model"]["bits"].items())
    text = f"""# Roofline of {info['model']['name']}{sequence}

{kept['date']}, commit {kept['commit']}. {kept['cpu']}, {kept['system']}.
{layers} layers with weights. One thread, batch 1.
Made by `bench/roofline.py`; the method is in [bench/README.md](../../bench/README.md#roofline).

The floor of a layer is the larger of two times: its multiply-adds at the peak that `mpqrun` measures, and its bytes,
weights at {kept['weights_rate'] / 1e9:.1f} GB/s (a block as large as all of them, {kept['weights'] / 1e6:.1f} MB) and \
activations at {kept['activations_rate'] / 1e9:.1f} GB/s (a block of 1 MiB, in L2).
Multiply-adds are the network's: a kernel that needs fewer products (Winograd, Strassen, packing) may pass its floor.
"""
    return text + "".join(section(isa, kept, info) for isa in kept["profiles"])


def ask(command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"roofline: {command[0]}: status {done.returncode}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("model")
    parser.add_argument("--mpqrun", default="build/runtime/cli/mpqrun")
    parser.add_argument("--isa", type=lambda text: text.split(","), default=["auto"], metavar="amx,avx512vnni")
    parser.add_argument("--seq-len", type=int, default=0, metavar="N", help="tokens of a sequence (encoders)")
    parser.add_argument("--runs", type=int, default=40, help="of each instruction set, in turn")
    parser.add_argument("--keep", metavar="FILE", help="all numbers; those in it already count, too")
    parser.add_argument("--markdown", metavar="FILE", help="the page (default: standard output)")
    options = parser.parse_args()

    info = ask([options.mpqrun, "info", options.model, "--json"])
    kept = machine.facts() | {"schema_version": 1, "model": info["model"]["sha256"], "tokens": options.seq_len,
                              "weights_rate": 0, "activations_rate": 0, "profiles": {isa: [] for isa in options.isa}}
    if options.keep and os.path.exists(options.keep):
        with open(options.keep, encoding="utf-8") as file:
            old = json.load(file)
        if any(old[key] != kept[key] for key in ("schema_version", "model", "tokens", "commit")):
            parser.error(f"{options.keep}: numbers of another model, length or commit")
        kept |= old | {"profiles": kept["profiles"] | old["profiles"]}
    command = [options.mpqrun, "profile", options.model, "--json", "--quiet", "--threads", 1, "--iterations", 1,
               "--warmup", 0.1] + (["--seq-len", options.seq_len] if options.seq_len else [])
    for _ in range(options.runs):
        for isa in options.isa:
            kept["profiles"][isa].append(ask([*command, "--isa", isa]))
    rows = rows_of(next(iter(kept["profiles"].values())), info)
    kept["weights"] = sum(row["weights"] for row in rows)
    kept["weights_rate"] = max(kept["weights_rate"], read_bandwidth(kept["weights"]))
    kept["activations_rate"] = max(kept["activations_rate"], read_bandwidth(L2_BLOCK))
    if options.keep:
        with open(options.keep, "w", encoding="utf-8") as file:
            json.dump(kept, file)
    with open(options.markdown, "w", encoding="utf-8") if options.markdown else sys.stdout as out:
        out.write(page(kept, info))


if __name__ == "__main__":
    main()
