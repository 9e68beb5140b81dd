#!/usr/bin/env python3
"""Studies of precision selection, from nothing to a page under docs/results. Standard library only.

   study.py fashion|cifar|additivity|times [--build DIR] [--size full|medium|quick] [--seeds 1,2,3] [--out DIR] [--only-report]

A float network is trained, fine-tuned to 4 bits everywhere (LSQ), and from there to mixes of 4 and 2 bits that
each selector chooses at each budget, by one recipe. Every step's result is kept under MPQ_CACHE (default
~/.cache/mpq/study); what is there is not computed again, and training resumes from its checkpoint. Maps that two
selectors share are trained once. times: how fast cifar's mixes run, and what a budget in measured time would choose.
medium and quick: fewer images, steps and budgets; the page says how many."""
import argparse
import datetime
import fcntl
import hashlib
import json
import os
import random
import subprocess
import sys
import tarfile
import time

from study_pages import additivity_page, frontier_page, times_page

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DATA = os.environ.get("MPQ_DATA", os.path.join(os.path.dirname(ROOT), "shared", "data"))
FASHION = "/usr/share/datasets/fashion-mnist"

# limit 0: all images; short_limit: of ALPS's runs and of mixes. steps 0: of whole epochs. taught: mixes learn from the float
# network, too.
FULL = dict(limit=0, short_limit=0, test_limit=0, float_epochs=20, w4_steps=0, w4_epochs=8, alps_steps=0, alps_epochs=1,
            mix_steps=0, mix_epochs=3, taught=False, budgets=[95, 90, 85, 80, 75, 70, 65, 60, 55],
            seeds=[1, 2, 3], samples=256, probes=16, randoms=10, maps=50)
MEDIUM = dict(FULL, short_limit=20000, float_epochs=12, w4_epochs=5, alps_steps=40, mix_steps=600, taught=True,
              budgets=[75, 60, 90], probes=4, randoms=1)
QUICK = dict(FULL, limit=20000, short_limit=20000, test_limit=2000, float_epochs=3, w4_epochs=1, alps_steps=24, mix_steps=40,
             budgets=[85, 70], seeds=[1], samples=128, probes=2, randoms=1, maps=10)
SIZES = {"full": FULL, "medium": MEDIUM, "quick": QUICK}
# What a size says of a network goes before what it says of all.
NETWORKS = {
    "fashion": dict(title="Fashion-MNIST", full=dict(network="resnet20", width=16),
                    medium=dict(network="resnet14", width=8), quick=dict(network="resnet14", width=8), side=28,
                    train=f"{FASHION}/train-images-idx3-ubyte.gz", test=f"{FASHION}/t10k-images-idx3-ubyte.gz",
                    augment=["--crop", "2", "--flip"]),
    "cifar": dict(title="CIFAR-10 as JPEG", full=dict(network="resnet20", width=16),
                  medium=dict(network="resnet20", width=16, float_epochs=3, w4_epochs=2, alps_steps=24, mix_steps=400,
                              budgets=[75, 60], seeds=[1]),
                  quick=dict(network="resnet20", width=16), side=32, archive="cifar10_jpeg.tar.gz", init="resnet20",
                  augment=["--crop", "4", "--flip"]),
}
NETWORK_OF = {"additivity": "fashion", "times": "cifar"}  # of the studies that take another's networks
RECIPE = ["--batch", "64", "--nesterov"]
# Beside these every study has `random` with several seeds.
SELECTORS = ["eagl", "alps", "hawq", "fit", "sqnr", "lsq-step", "constant", "first-to-last", "last-to-first"]
NEEDS = {"eagl": "none", "alps": "labelled images, training", "hawq": "labelled images", "fit": "labelled images",
         "sqnr": "images", "lsq-step": "labelled images, training", "constant": "none", "first-to-last": "none",
         "last-to-first": "none", "random": "none"}


def say(text):
    print(time.strftime("%H:%M:%S ") + text, flush=True)


def suffix(options):
    return "" if options.size == "full" else "-" + options.size


class Study:
    """The steps of one study, each a command whose JSON, time and memory are kept."""
    full, needs = FULL, NEEDS

    def __init__(self, name, sizes, options):
        self.cpu_seconds = {}
        self.net = NETWORKS[NETWORK_OF.get(name, name)]
        self.name, self.sizes, self.options = name, sizes, options
        cache = os.environ.get("MPQ_CACHE", os.path.expanduser("~/.cache/mpq"))
        self.folder = os.path.join(cache, "study", NETWORK_OF.get(name, name) + suffix(options))
        os.makedirs(self.folder, exist_ok=True)

    def at(self, name):
        return os.path.join(self.folder, name)

    def step(self, name, command, needs_json=True):
        """Runs mpqconvert or mpqrun unless name.json is there; returns what it holds."""
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
            result = json.load(file)
        self.cpu_seconds[name] = result["cpu_seconds"]
        return result

    def tool(self, verb):
        of_runtime = verb in ("eval", "profile", "bench")
        return os.path.join(self.options.build, "runtime/cli/mpqrun" if of_runtime else "converter/mpqconvert")

    def run(self, name, kept, command, needs_json):
        say(name)
        start = time.monotonic()
        with open(kept + ".out", "w") as out, open(kept + ".log", "w") as log:
            child = subprocess.Popen([self.tool(command[0]), *command], stdout=out, stderr=log, env=self.environment())
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode != 0:
            sys.exit(f"{name}: exit code {child.returncode}: {' '.join(command)}\n" + open(kept + ".log").read()[-2000:])
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
        net = self.net
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

    def training(self, test=False, short=False):
        """What all runs share. short: those of a given number of steps, which need not read more than they use."""
        train, test_set = self.data()
        words = ["--dataset", train, *RECIPE, *self.net["augment"], "--json"]
        limit = self.sizes["short_limit" if short else "limit"]
        if limit:
            words += ["--limit", str(limit)]
        if test:
            words += ["--test", test_set]
        return words

    def length(self, of):
        steps = self.sizes[of + "_steps"]
        return ["--steps", str(steps)] if steps else ["--epochs", str(self.sizes[of + "_epochs"])]

    def float_network(self):
        net = self.net
        start = ["--init", self.initial_weights(net["init"]), "--rate", "0.02"] if "init" in net else []
        return self.train("float", ["--epochs", str(self.sizes["float_epochs"]), *start])

    def longer(self):
        """The float network trained on as long as the 4-bit one is: what that is measured against."""
        return self.train("longer", [*self.length("w4"), "--init", self.at("float.onnx"), "--rate", "0.01"])

    def train(self, name, own):
        size = self.sizes
        return self.step(name, ["train", size["network"], "--width", str(size["width"]), "--side",
                                str(self.net["side"]), "--weight-decay", "0.0005",
                                *self.training(test=True), "--checkpoint", self.at(name + ".ckpt"), "-o",
                                self.at(name + ".onnx"), *own])

    def initial_weights(self, name):
        with tarfile.open(os.path.join(DATA, "resnet_cifar10_akamaster.tar")) as archive:
            member = next(m for m in archive.getmembers() if os.path.basename(m.name).startswith(name) and m.isfile())
            path = self.at(os.path.basename(member.name))
            with open(path, "wb") as file:
                file.write(archive.extractfile(member).read())
        return path

    def w4a4(self):
        return self.step("w4a4", ["finetune", self.at("float.onnx"), "--map", "uniform:4", *self.length("w4"), "--rate", "0.02",
                                  *self.training(), "--checkpoint", self.at("w4a4.ckpt"), "--onnx",
                                  self.at("w4a4.onnx"), "-o", self.at("w4a4.fb")])

    def score(self, name, limit=0):
        """The accuracy of a model file in the runtime."""
        done = self.step(name + ".score", ["eval", self.at(name + ".fb"), "--dataset", self.data()[1], "--limit", str(limit),
                                           "--threads", "1", "--batch", "16", "--json"])
        return done and done["result"]["top1"]

    def alps(self):
        return self.step("alps", ["alps", self.at("w4a4.onnx"), *self.length("alps"), *self.training(short=True), "--checkpoint",
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
        if "images" in NEEDS[selector] and selector != "alps":  # whose gains are in a file
            command += ["--dataset", self.data()[0]]
        return self.at(name + ".map"), self.step(name, command, needs_json=False)

    def mix(self, path, seed):
        """Test accuracy and training loss of a map's network, trained once for all who chose it."""
        name = self.mix_name(path, seed)
        teacher = ["--teacher", self.at("float.onnx")] if self.sizes["taught"] else []
        done = self.step(name, ["finetune", self.at("w4a4.onnx"), "--map", path, *self.length("mix"), "--rate", "0.01", *teacher,
                                *self.training(short=True), "--seed", str(seed), "--checkpoint", self.at(name + ".ckpt"),
                                "-o", self.at(name + ".fb")])
        accuracy = done and self.score(name, self.sizes["test_limit"])
        return accuracy and (accuracy, done["result"]["second_half_loss"])

    def mix_name(self, path, seed):
        with open(path) as file:
            layers = json.load(file)["layers"]
        bits = ",".join(f"{layer['name']}={layer['weight_bits']}" for layer in layers)
        if all(layer["weight_bits"] != 2 for layer in layers):
            bits = "none lowered"
        return f"mixes/{hashlib.sha256(bits.encode()).hexdigest()[:12]}-{seed}"

    def profile(self, name):
        return self.step(name + ".profile", ["profile", self.at(name + ".fb"), "--threads", "1", "--json"])

    def bench(self, name):
        """Nanoseconds of one image on one thread: the least of many runs."""
        done = self.step(name + ".bench", ["bench", self.at(name + ".fb"), "--threads", "1", "--duration", "1", "--warmup", "0.2",
                                           "--json"])
        return done and done["result"]["results"][0]["compute_ns"]["min"]


def frontier(study):
    """Accuracies of the networks; ALPS's run; {selector: {budget: [(test accuracy, training loss) a seed]}} and what
    choosing took. What is not there yet is left out."""
    networks = {name: run and run["result"]["test_accuracy"]
                for name, run in (("float", study.float_network()), ("longer", study.longer()))}
    networks["w4a4"] = study.score("w4a4")
    draws = [(s, 0) for s in SELECTORS] + [("random", i + 1) for i in range(study.sizes["randoms"])]
    if study.options.selectors:
        draws = [draw for draw in draws if draw[0] in study.options.selectors.split(",")]
    alps = study.alps() if ("alps", 0) in draws else None
    points, selections = {}, {}
    for seed in study.sizes["seeds"]:  # a whole frontier first, then more of them
        for budget in study.sizes["budgets"]:
            for selector, draw in draws:
                path, found = study.search(selector, budget, draw)
                row = study.mix(path, seed) if found else None
                if row:
                    selections[selector] = alps if selector == "alps" else found
                    points.setdefault(selector, {}).setdefault(budget, []).append(row)
    return networks, alps, points, selections


def additivity(study):
    """The loss of a mix against the sum of what its lowered groups cost alone, by ALPS's own recipe."""
    if not study.alps():
        sys.exit(f"{study.folder}: ALPS is not there yet")
    with open(study.at("gains.json")) as file:
        gains = json.load(file)
    path, _ = study.search("constant", 90)
    with open(path) as file:
        template = json.load(file)
    rng = random.Random(1)
    points = []
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
                                         *study.length("alps"), "--rate", "0.001", "--decay", "constant", *study.training(short=True),
                                         "--checkpoint", study.at(f"drawn/{i}.ckpt"), "--onnx", study.at(f"drawn/{i}.onnx")])
        if done:
            points.append((gains["reference_loss"] + sum(g["gain"] for g in lowered), done["result"]["second_half_loss"],
                           len(lowered)))
    return points


def times(study):
    """What each precision costs a layer, what each mix takes, and selections within a time."""
    profiles = {4: study.profile("w4a4")}
    for bits in (8, 2):
        study.step(f"w{bits}a{bits}", ["finetune", study.at("float.onnx"), "--map", f"uniform:{bits}", "--steps", "1",
                                       *study.training(short=True), "-o", study.at(f"w{bits}a{bits}.fb")])
        profiles[bits] = study.profile(f"w{bits}a{bits}")
    if None in profiles.values():
        sys.exit(f"{study.folder}: the networks are not there yet")
    costs = {bits: {row["name"]: row["time_ns"] for row in profile["result"]["layers"]} for bits, profile in profiles.items()}
    rows, seen = [], set()
    for budget in study.sizes["budgets"]:
        for selector in SELECTORS + ["random"]:
            path, found = study.search(selector, budget, int(selector == "random"))
            name = found and study.mix_name(path, study.sizes["seeds"][0])
            if not name or not os.path.exists(study.at(name + ".json")):
                continue
            with open(path) as file:
                layers = json.load(file)["layers"]
            predicted = sum(costs[layer["weight_bits"]].get(layer["name"], 0) for layer in layers)
            measured, accuracy = study.bench(name), study.score(name, study.sizes["test_limit"])
            if measured and accuracy:
                rows.append((selector, budget, predicted / 1e6, measured / 1e6, 100 * accuracy, name in seen))
                seen.add(name)
    whole = {"all 4 bit": "w4a4", "all 2 bit": "w2a2", "all 8 bit": "w8a8"}
    return costs, rows, {words: study.bench(name) / 1e6 for words, name in whole.items() if study.bench(name)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=[*NETWORKS, "additivity", "times"])
    parser.add_argument("--build", default=os.path.join(ROOT, "build"))
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--seeds", help="of the fine-tuning of mixes: 1,2,3")
    parser.add_argument("--budgets", help="these first, or only: 75,60")
    parser.add_argument("--selectors", help="some of them only: eagl,alps,random; another process may do the others")
    parser.add_argument("--out", default=os.path.join(ROOT, "docs", "results"))
    parser.add_argument("--only-report", action="store_true", help="a page of what is there; nothing is computed")
    options = parser.parse_args()
    sizes = {**SIZES[options.size], **NETWORKS[NETWORK_OF.get(options.study, options.study)][options.size]}
    for name in ("seeds", "budgets"):
        if getattr(options, name):
            sizes[name] = [int(word) for word in getattr(options, name).split(",")]
    study = Study(options.study, sizes, options)
    study.float_network()
    if not study.w4a4():
        sys.exit(f"{study.folder}: the networks are not there yet")
    if options.study == "additivity":
        text, figures = additivity_page(study, additivity(study))
    elif options.study == "times":
        text, figures = times_page(study, times(study))
    else:
        text, figures = frontier_page(study, frontier(study))
    spent = sum(study.cpu_seconds.values())
    text += f"\n{len(study.cpu_seconds)} runs, {spent / 60:.0f} minutes of CPU together.\n"
    os.makedirs(options.out, exist_ok=True)
    stem = f"study-{options.study}{suffix(options)}-{datetime.date.today()}"
    for name, figure in figures.items():
        text += f"\n![{name}]({stem}-{name}.svg)\n"
        with open(os.path.join(options.out, f"{stem}-{name}.svg"), "w") as file:
            file.write(figure)
    with open(os.path.join(options.out, stem + ".md"), "w") as file:
        file.write(text)
    say(os.path.join(options.out, stem + ".md"))


if __name__ == "__main__":
    main()
