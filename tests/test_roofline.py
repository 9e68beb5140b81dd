#!/usr/bin/env python3
"""bench/roofline.py on made-up profiles: least times, classes, floors, and a page that follows from them."""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(sys.argv[1])))
import roofline  # pylint: disable=wrong-import-position


def layer(name, op, time_ns, macs=0, size=0, kernel="k"):
    return {"name": name, "op": op, "time_ns": time_ns, "macs": macs, "bytes": size, "kernel": kernel}


def profile(conv, norm, attention, median, peak):
    layers = [layer("layer1_0_conv3", "conv2d", conv, 1_000_000, 5000, f"conv{conv}"),
              layer("x.LayerNorm", "layer_norm", norm, 0, 4000), layer("x.attention", "attention", attention, 1600, 300)]
    return {"configuration": {"isa": "amx"}, "layers": layers, "steps_ns": conv + norm + attention,
            "peak_ops_per_second": peak, "run_ns": {"n": 1, "min": median, "median": median}}


info = {"model": {"name": "net", "bits": {"w4a4": {"layers": 2}, "w8a8": {"layers": 1}}},
        "layers": [{"name": "layer1_0_conv3", "weights": 6000, "weight_bits": 4, "shape": [1, 8]},
                   {"name": "x.LayerNorm", "weights": 9999, "weight_bits": 32, "shape": [1, 8]},
                   {"name": "x.attention", "weights": 0, "weight_bits": 0, "shape": [1, 8]}]}
profiles = [profile(9000, 100, 700, 10_000, 1e12), profile(4000, 200, 700, 5000, 2e12)]
rows = roofline.rows_of(profiles, info)
assert [row["time_ns"] for row in rows] == [4000, 100, 700], rows  # the least of each, not of one run
assert rows[0]["kernel"] == "conv4000" and rows[0]["class"] == "1x1, expand, with residual", rows
assert (rows[0]["weights"], rows[0]["activations"]) == (3000, 2000), rows
assert (rows[1]["weights"], rows[1]["activations"]) == (4000, 0), rows  # a table counts as far as it is read
assert rows[2]["macs"] == 1600, rows

roofline.add_floors(rows, peak=2e12, weights_rate=1e9, activations_rate=1e10)
assert rows[0]["compute_ns"] == 1000 and rows[0]["memory_ns"] == 3200 and rows[0]["floor_ns"] == 3200, rows
assert roofline.add_floors(rows, 1e11, 1e9, 1e10)[0]["floor_ns"] == 20_000, rows  # half the speed: multiplies decide
total = roofline.total_of(rows, name="all")
assert total["time_ns"] == 4800 and total["macs"] == 1_001_600 and total["name"] == "all", total

for name, op, kind in (("conv1", "conv2d", "first layers"), ("layer2_0_downsample_0", "conv2d", "1x1, shortcut"),
                       ("layer2_1_conv1", "conv2d", "1x1, reduce"), ("layer2_1_conv2", "conv2d", "3x3"),
                       ("e.0.attention.output.dense", "linear", "attention's output, with residual"),
                       ("e.0.output.dense", "linear", "feed-forward down, with residual"),
                       ("e.0.attention.output.LayerNorm", "layer_norm", "normalisation"),
                       ("unheard of", "pad", "pad")):
    assert roofline.class_of(layer(name, op, 1)) == kind, (name, roofline.class_of(layer(name, op, 1)))

kept = {"date": "2026-01-01", "commit": "abc", "cpu": "some", "system": "Linux", "tokens": 10, "weights": 3000,
        "weights_rate": 1e9, "activations_rate": 1e10, "profiles": {"amx": profiles}}
lines = roofline.page(kept, info).splitlines()
cells = {line.split(" | ")[0]: [c.strip(" |") for c in line.split(" | ")] for line in lines if line.startswith("| ")}
assert any(line.startswith("2 w4a4, 1 w8a8 layers with weights.") for line in lines), lines
assert "2 runs. Peak 2.00 TOPS;" in "\n".join(lines), lines
assert cells["| layer1_0_conv3"][1:] == ["1.0", "3", "2", "3.2", "bytes", "4.0", "80 %", "conv4000"], cells
assert cells["| between steps"][6:9] == ["0.1", "", "2.0 %"], cells  # 5000 - 4900 of 4900
assert cells["| the whole"][6] == "4.9", cells
