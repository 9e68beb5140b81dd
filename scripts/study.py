#!/usr/bin/env python3
"""Studies of precision selection, from nothing to a page under docs/results. Standard library only.

   study.py fashion|cifar|additivity [--build DIR] [--quick] [--seeds 1,2,3] [--out DIR] [--only-report]

A float network is trained, fine-tuned to 4 bits everywhere (LSQ), and from there to mixes of 4 and 2 bits that
each selector chooses at each budget, by one recipe. Every step's result is kept under MPQ_CACHE (default
~/.cache/mpq/study); what is there is not computed again, and training resumes from its checkpoint. Maps that two
selectors share are trained once. --quick: fewer images, steps and budgets; the page says how many."""
import argparse
import datetime
import fcntl
import hashlib
import json
import math
import os
import platform
import random
import subprocess
import sys
import tarfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DATA = os.environ.get("MPQ_DATA", os.path.join(os.path.dirname(ROOT), "shared", "data"))
FASHION = "/usr/share/datasets/fashion-mnist"

# Sizes: of the whole study, and with --quick. limit 0: all images. steps 0: of whole epochs.
FULL = dict(limit=0, test_limit=0, float_epochs=20, w4_epochs=8, alps_steps=0, mix_steps=0, mix_epochs=3,
            budgets=[95, 90, 85, 80, 75, 70, 65, 60, 55], seeds=[1, 2, 3], samples=256, probes=16, randoms=10, maps=50)
QUICK = dict(FULL, limit=20000, test_limit=2000, float_epochs=3, w4_epochs=1, alps_steps=24, mix_steps=40,
             budgets=[85, 70], seeds=[1], samples=128, probes=2, randoms=1, maps=10)
NETWORKS = {
    "fashion": dict(title="Fashion-MNIST", full=dict(network="resnet20", width=16), quick=dict(network="resnet14", width=8),
                    side=28, train=f"{FASHION}/train-images-idx3-ubyte.gz", test=f"{FASHION}/t10k-images-idx3-ubyte.gz",
                    augment=["--crop", "2", "--flip"]),
    "cifar": dict(title="CIFAR-10 as JPEG", full=dict(network="resnet20", width=16), quick=dict(network="resnet20", width=16),
                  side=32, archive="cifar10_jpeg.tar.gz", init="resnet20", augment=["--crop", "4", "--flip"]),
}
RECIPE = ["--batch", "64", "--nesterov"]
# Beside these every study has `random` with several seeds.
SELECTORS = ["eagl", "alps", "hawq", "fit", "sqnr", "lsq-step", "constant", "first-to-last", "last-to-first"]
NEEDS = {"eagl": "none", "alps": "labelled images, training", "hawq": "labelled images", "fit": "labelled images",
         "sqnr": "images", "lsq-step": "labelled images, training", "constant": "none", "first-to-last": "none",
         "last-to-first": "none", "random": "none"}


def say(text):
    print(time.strftime("%H:%M:%S ") + text, flush=True)


class Study:
    """The steps of one study, each a command whose JSON, time and memory are kept."""

    def __init__(self, name, sizes, options):
        self.name, self.sizes, self.options = name, sizes, options
        cache = os.environ.get("MPQ_CACHE", os.path.expanduser("~/.cache/mpq"))
        self.folder = os.path.join(cache, "study", name + ("-quick" if options.quick else ""))
        os.makedirs(self.folder, exist_ok=True)
        self.tool = os.path.join(options.build, "converter", "mpqconvert")

    def at(self, name):
        return os.path.join(self.folder, name)

    def step(self, name, command, needs_json=True):
        """Runs mpqconvert unless name.json is there; returns what it holds."""
        kept = self.at(name + ".json")
        os.makedirs(os.path.dirname(kept), exist_ok=True)
        with open(kept + ".lock", "w") as lock:
            if not os.path.exists(kept) and not self.options.only_report:
                fcntl.flock(lock, fcntl.LOCK_EX)  # several may work on one study
                if not os.path.exists(kept):
                    self.run(name, kept, command, needs_json)
        if not os.path.exists(kept):
            return None
        with open(kept) as file:
            return json.load(file)

    def run(self, name, kept, command, needs_json):
        say(name)
        start = time.monotonic()
        with open(kept + ".out", "w") as out, open(kept + ".log", "w") as log:
            child = subprocess.Popen([self.tool, *command], stdout=out, stderr=log, env=self.environment())
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode != 0:
            sys.exit(f"{name}: exit code {child.returncode}: mpqconvert {' '.join(command)}\n" + open(kept + ".log").read()[-2000:])
        text = open(kept + ".out").read()
        result = {"command": command, "seconds": time.monotonic() - start,
                  "cpu_seconds": usage.ru_utime + usage.ru_stime, "peak_mib": usage.ru_maxrss / 1024,
                  "result": json.loads(text) if needs_json and text.strip() else None}
        with open(kept + ".part", "w") as file:
            json.dump(result, file, indent=1)
        os.replace(kept + ".part", kept)

    def environment(self):
        library = os.path.join(self.options.build, "runtime")
        return dict(os.environ, OMP_WAIT_POLICY="passive", LD_LIBRARY_PATH=library)

    # ---- the networks

    def data(self):
        net = NETWORKS[self.network()]
        if "archive" not in net:
            return net["train"], net["test"]
        folder = self.at("data")
        if not os.path.exists(os.path.join(folder, "done")):
            with tarfile.open(os.path.join(DATA, net["archive"])) as archive:
                archive.extractall(folder)
            open(os.path.join(folder, "done"), "w").close()
        found = {}
        for base, folders, _ in os.walk(folder):
            found.update({name: os.path.join(base, name) for name in folders if name in ("train", "test")})
        return found["train"], found["test"]

    def network(self):
        return "fashion" if self.name == "additivity" else self.name

    def training(self, test=True):
        train, test_set = self.data()
        words = ["--dataset", train, *RECIPE, *NETWORKS[self.network()]["augment"], "--json"]
        if self.sizes["limit"]:
            words += ["--limit", str(self.sizes["limit"])]
        if test:
            words += ["--test", test_set]
        return words

    def float_network(self):
        net = NETWORKS[self.network()]
        size = net["quick" if self.options.quick else "full"]
        command = ["train", size["network"], "--width", str(size["width"]), "--side", str(net["side"]),
                   "--epochs", str(self.sizes["float_epochs"]), "--weight-decay", "0.0005", *self.training(),
                   "--checkpoint", self.at("float.ckpt"), "-o", self.at("float.onnx")]
        if "init" in net:
            command += ["--init", self.initial_weights(net["init"]), "--rate", "0.02"]
        return self.step("float", command)

    def initial_weights(self, name):
        with tarfile.open(os.path.join(DATA, "resnet_cifar10_akamaster.tar")) as archive:
            member = next(m for m in archive.getmembers() if os.path.basename(m.name).startswith(name) and m.isfile())
            path = self.at(os.path.basename(member.name))
            with open(path, "wb") as file:
                file.write(archive.extractfile(member).read())
        return path

    def w4a4(self):
        return self.step("w4a4", ["finetune", self.at("float.onnx"), "--map", "uniform:4", "--epochs",
                                  str(self.sizes["w4_epochs"]), *self.training(), "--checkpoint", self.at("w4a4.ckpt"),
                                  "--onnx", self.at("w4a4.onnx")])

    def alps(self):
        steps = ["--steps", str(self.sizes["alps_steps"])] if self.sizes["alps_steps"] else ["--epochs", "1"]
        return self.step("alps", ["alps", self.at("w4a4.onnx"), *steps, *self.training(test=False), "--checkpoint",
                                  self.at("alps.runs"), "-o", self.at("gains.json")])

    # ---- selection

    def words(self, selector, budget, seed=0):
        file = f",file={self.at('gains.json')}" if selector == "alps" else ""
        return f"{selector}:budget={budget / 100},seed={seed},samples={self.sizes['samples']},probes={self.sizes['probes']}{file}"

    def search(self, selector, budget, seed=0):
        """The map's path, and what finding it took."""
        name = f"maps/{selector}{seed or ''}-{budget}"
        command = ["search", self.at("w4a4.onnx"), "--map", self.words(selector, budget, seed),
                   "-o", self.at(name + ".map")]
        if NEEDS[selector].endswith("images") or "training" in NEEDS[selector]:
            command += ["--dataset", self.data()[0]]
        return self.at(name + ".map"), self.step(name, command, needs_json=False)

    def mix(self, path, seed):
        """The fine-tuned network of a map, trained once for all who chose it."""
        with open(path) as file:
            layers = json.load(file)["layers"]
        bits = ",".join(f"{layer['name']}={layer['weight_bits']}" for layer in layers)
        if all(layer["weight_bits"] != 2 for layer in layers):
            bits = "none lowered"
        name = f"mixes/{hashlib.sha256(bits.encode()).hexdigest()[:12]}-{seed}"
        steps = (["--steps", str(self.sizes["mix_steps"])] if self.sizes["mix_steps"]
                 else ["--epochs", str(self.sizes["mix_epochs"])])
        limit = ["--test-limit", str(self.sizes["test_limit"])] if self.sizes["test_limit"] else []
        return self.step(name, ["finetune", self.at("w4a4.onnx"), "--map", path, *steps, "--rate", "0.01",
                                *self.training(), *limit, "--seed", str(seed), "--checkpoint", self.at(name + ".ckpt"),
                                "--onnx", self.at(name + ".onnx")])

    def frontier(self):
        """{selector: {budget: [(test accuracy, training loss) a seed]}}; what is not there yet is left out."""
        points = {}
        draws = [(s, 0) for s in SELECTORS] + [("random", i + 1) for i in range(self.sizes["randoms"])]
        if self.options.selectors:
            draws = [draw for draw in draws if draw[0] in self.options.selectors.split(",")]
        for budget in self.sizes["budgets"]:
            for selector, draw in draws:
                path, found = self.search(selector, budget, draw)
                for seed in self.sizes["seeds"]:
                    done = self.mix(path, seed) if found else None
                    if done:
                        row = (done["result"]["test_accuracy"], done["result"]["second_half_loss"])
                        points.setdefault(selector, {}).setdefault(budget, []).append(row)
        return points


# ---- pages

COLOURS = ["#2b6cb0", "#c05621", "#2f855a", "#805ad5", "#b83280", "#4a5568", "#b7791f", "#2c7a7b", "#9b2c2c", "#718096"]


def mean(values):
    return sum(values) / len(values)


def svg(title, x_name, y_name, series, lines=True):
    """series: [(name, [(x, y)])]; one figure without dependencies."""
    width, height, left, right, top, bottom = 760, 420, 64, 150, 34, 46
    xs, ys = [x for _, p in series for x, _ in p], [y for _, p in series for _, y in p]
    pad = lambda lo, hi: (lo - 0.06 * (hi - lo or 1), hi + 0.06 * (hi - lo or 1))
    (x0, x1), (y0, y1) = pad(min(xs), max(xs)), pad(min(ys), max(ys))
    px = lambda x: left + (width - left - right) * (x - x0) / (x1 - x0)
    py = lambda y: height - bottom - (height - top - bottom) * (y - y0) / (y1 - y0)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="system-ui,sans-serif" '
           f'font-size="12"><rect width="100%" height="100%" fill="#fff"/>',
           f'<text x="{left}" y="20" font-size="14" fill="#1c2430">{title}</text>']
    for i in range(5):
        x, y = x0 + (x1 - x0) * i / 4, y0 + (y1 - y0) * i / 4
        out.append(f'<path d="M{left} {py(y):.1f}H{width - right}" stroke="#e3e7ec"/>'
                   f'<text x="{left - 8}" y="{py(y) + 4:.1f}" text-anchor="end" fill="#66707f">{y:.4g}</text>'
                   f'<text x="{px(x):.1f}" y="{height - bottom + 18}" text-anchor="middle" fill="#66707f">{x:.4g}</text>')
    out.append(f'<text x="{(left + width - right) / 2}" y="{height - 8}" text-anchor="middle" fill="#66707f">{x_name}</text>'
               f'<text x="16" y="{height / 2}" text-anchor="middle" fill="#66707f" '
               f'transform="rotate(-90 16 {height / 2})">{y_name}</text>')
    for i, (name, points) in enumerate(series):
        colour = COLOURS[i % len(COLOURS)]
        if lines:
            path = " ".join(f"{px(x):.1f},{py(y):.1f}" for x, y in sorted(points))
            out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.8"/>')
        out += [f'<circle cx="{px(x):.1f}" cy="{py(y):.1f}" r="3" fill="{colour}"/>' for x, y in points]
        out.append(f'<text x="{width - right + 12}" y="{top + 12 + 18 * i}" fill="{colour}">{name}</text>')
    return "\n".join(out) + "\n</svg>\n"


def machine():
    model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")),
                 platform.machine())
    return f"{model}, {os.cpu_count()} cores"


def commit():
    done = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def heading(study, title):
    words = "study-" + study.name + (" QUICK=1" if study.options.quick else "")
    return (f"# {title}\n\n{datetime.date.today()}, commit {commit()}, {machine()}. `make {words}`. Times are of a machine "
            "that other work shared: they show an order of magnitude; CPU seconds are firmer.\n\n")


def sizes_line(study):
    s, net = study.sizes, NETWORKS[study.network()]
    size = net["quick" if study.options.quick else "full"]
    some = lambda n, what: f"{n} {what}" if n else f"all {what}"
    mix = f"{s['mix_steps']} steps" if s["mix_steps"] else f"{s['mix_epochs']} epochs"
    alps = f"{s['alps_steps']} steps" if s["alps_steps"] else "one epoch"
    text = (f"{size['network']}, {size['width']} channels in the first stage, {net['title']}: {some(s['limit'], 'training images')}; "
            f"float {s['float_epochs']} epochs, all-4-bit {s['w4_epochs']}, mixes {mix} of 64 images from the 4-bit "
            f"network, ALPS {alps} a group; mixes are tested on {some(s['test_limit'], 'test images')}; "
            f"seeds {', '.join(map(str, s['seeds']))}. First and last layer 8 bit, outside the budget.\n\n")
    if study.options.quick:
        text += ("**Reduced** (`--quick`): the whole study has all images, whole epochs, nine budgets, three seeds and ten "
                 "random orders. With so few steps and one seed, differences below the standard errors named here say "
                 "nothing about the selectors.\n\n")
    return text


def frontier_page(study, networks, points):
    net = NETWORKS[study.network()]
    text = heading(study, f"{net['title']}: the frontier of 4- and 2-bit mixes") + sizes_line(study)
    tests = study.sizes["test_limit"] or 10000
    accuracy = networks["w4a4"]["result"]["test_accuracy"]
    error = 100 * math.sqrt(accuracy * (1 - accuracy) / tests)
    text += "| network | test accuracy %, 10,000 images |\n| --- | ---: |\n"
    for name in ("float", "w4a4"):
        text += f"| {name} | {100 * networks[name]['result']['test_accuracy']:.2f} |\n"
    budgets = sorted({b for rows in points.values() for b in rows}, reverse=True)
    for what, index, scale, digits in (("Test accuracy %", 0, 100, 2), ("Training loss, second half of the run", 1, 1, 4)):
        note = (f"One standard error of an accuracy on {tests} images is {error:.2f} points; "
                "the images are the same in every cell." if index == 0 else "The same images in the same order in every cell.")
        text += f"\n## {what}\n\n{note} Mean over seeds, in the last column over budgets.\n\n"
        text += "| selector | " + " | ".join(f"{b} %" for b in budgets) + " | mean |\n"
        text += "| --- |" + " ---: |" * (len(budgets) + 1) + "\n"
        for selector, rows in points.items():
            cells = [scale * mean([r[index] for r in rows[b]]) if b in rows else None for b in budgets]
            whole = f"{mean(cells):.{digits}f}" if None not in cells else ""
            text += f"| {selector} | " + " | ".join("" if c is None else f"{c:.{digits}f}" for c in cells) + f" | {whole} |\n"
    text += "\n## What selection takes\n\nFrom the start of the process to the map of one budget; ALPS: to its gains, from which every budget's map takes less than a second.\n\n"
    text += "| selector | wall s | CPU s | peak MiB | data |\n| --- | ---: | ---: | ---: | --- |\n"
    for selector in points:
        first = max(points[selector])
        run = networks["alps"] if selector == "alps" else study.search(selector, first, int(selector == "random"))[1]
        text += (f"| {selector} | {run['seconds']:.2f} | {run['cpu_seconds']:.2f} | {run['peak_mib']:.0f} | {NEEDS[selector]} |\n")
    if "alps" in networks:
        text += "\n## ALPS, group by group\n\n| group | gain (loss) | wall s |\n| --- | ---: | ---: |\n"
    for row in networks["alps"]["result"]["runs"] if "alps" in networks else []:
        text += f"| {row['group']} | {row['gain']:.4f} | {row['seconds']:.1f} |\n"
    series = [(s, [(b, 100 * mean([r[0] for r in rows[b]])) for b in rows]) for s, rows in points.items()]
    losses = [(s, [(b, mean([r[1] for r in rows[b]])) for b in rows]) for s, rows in points.items()]
    return text, {"accuracy": svg(net["title"] + ": accuracy", "bit-MACs, % of all 4 bit", "test accuracy %", series),
                  "loss": svg(net["title"] + ": training loss", "bit-MACs, % of all 4 bit", "loss", losses)}


def ranks(values):
    order = sorted(range(len(values)), key=lambda i: values[i])
    result = [0.0] * len(values)
    at = 0
    while at < len(order):
        end = at
        while end < len(order) and values[order[end]] == values[order[at]]:
            end += 1
        for i in order[at:end]:
            result[i] = (at + end - 1) / 2
        at = end
    return result


def pearson(x, y):
    mx, my = mean(x), mean(y)
    top = sum((a - mx) * (b - my) for a, b in zip(x, y))
    return top / math.sqrt(sum((a - mx) ** 2 for a in x) * sum((b - my) ** 2 for b in y))


def additivity(study):
    """The loss of a mix against the sum of what its lowered groups cost alone, by ALPS's own recipe."""
    with open(study.at("gains.json")) as file:
        gains = json.load(file)
    path, _ = study.search("constant", 90)
    with open(path) as file:
        template = json.load(file)
    rng = random.Random(1)
    points = []
    steps = ["--steps", str(study.sizes["alps_steps"])] if study.sizes["alps_steps"] else ["--epochs", "1"]
    for i in range(study.sizes["maps"]):
        lowered = [g for g in gains["groups"] if rng.random() < (i + 1) / (study.sizes["maps"] + 1)]
        names = {layer for g in lowered for layer in g["layers"]}
        chosen = json.loads(json.dumps(template))
        chosen["method"] = "random"
        for layer in chosen["layers"]:
            if not chosen["groups"][layer["group"]]["fixed"]:
                layer["weight_bits"] = layer["activation_bits"] = 2 if layer["name"] in names else 4
        os.makedirs(study.at("maps"), exist_ok=True)
        with open(study.at(f"maps/drawn-{i}.map"), "w") as file:
            json.dump(chosen, file)
        done = study.step(f"drawn/{i}", ["finetune", study.at("w4a4.onnx"), "--map", study.at(f"maps/drawn-{i}.map"),
                                         *steps, "--rate", "0.001", "--decay", "constant", *study.training(test=False),
                                         "--checkpoint", study.at(f"drawn/{i}.ckpt"), "--onnx", study.at(f"drawn/{i}.onnx")])
        if done:
            points.append((gains["reference_loss"] + sum(g["gain"] for g in lowered), done["result"]["second_half_loss"]))
    return points


def additivity_page(study, points):
    x, y = [p[0] for p in points], [p[1] for p in points]
    text = heading(study, "Do losses of lowered groups add up?") + sizes_line(study)
    text += (f"{len(points)} random maps, from nearly all 4 bit to nearly all 2 bit; predicted: the reference's loss and the sum "
             "of ALPS's gains of the groups at 2 bit; measured: the loss of the mix by the same recipe.\n\n"
             f"Pearson {pearson(x, y):.3f}, Spearman {pearson(ranks(x), ranks(y)):.3f}.\n\n"
             "| predicted | measured |\n| ---: | ---: |\n" + "".join(f"| {a:.4f} | {b:.4f} |\n" for a, b in sorted(points)))
    return text, {"loss": svg("Additivity", "predicted loss", "measured loss", [("maps", points)], lines=False)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=[*NETWORKS, "additivity"])
    parser.add_argument("--build", default=os.path.join(ROOT, "build"))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seeds", help="of the fine-tuning of mixes: 1,2,3")
    parser.add_argument("--selectors", help="some of them only: eagl,alps,random; another process may do the others")
    parser.add_argument("--out", default=os.path.join(ROOT, "docs", "results"))
    parser.add_argument("--only-report", action="store_true", help="a page of what is there; nothing is computed")
    options = parser.parse_args()
    sizes = dict(QUICK if options.quick else FULL)
    if options.seeds:
        sizes["seeds"] = [int(word) for word in options.seeds.split(",")]
    study = Study(options.study, sizes, options)
    if options.study == "additivity":  # of the same networks
        study.folder = Study("fashion", sizes, options).folder
    networks = {"float": study.float_network(), "w4a4": study.w4a4()}
    if not options.selectors or "alps" in options.selectors.split(",") or options.study == "additivity":
        networks["alps"] = study.alps()
    if None in networks.values():
        sys.exit(f"{study.folder}: the networks are not there yet")
    if options.study == "additivity":
        text, figures = additivity_page(study, additivity(study))
    else:
        text, figures = frontier_page(study, networks, study.frontier())
    os.makedirs(options.out, exist_ok=True)
    stem = f"study-{options.study}{'-quick' if options.quick else ''}-{datetime.date.today()}"
    for name, figure in figures.items():
        text += f"\n![{name}]({stem}-{name}.svg)\n"
        with open(os.path.join(options.out, f"{stem}-{name}.svg"), "w") as file:
            file.write(figure)
    with open(os.path.join(options.out, stem + ".md"), "w") as file:
        file.write(text)
    say(os.path.join(options.out, stem + ".md"))


main()
