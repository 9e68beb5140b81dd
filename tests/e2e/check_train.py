#!/usr/bin/env python3
"""mpqconvert train, finetune, reconstruct, alps and report from the outside, on pictures that this script draws: accuracy
in float, in the trained network's own arithmetic and in the runtime; runs killed at random points. Standard library only.

   check_train.py MPQCONVERT [MPQRUN] [--plant]      --plant: results that must not count as equal
"""
import json
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

words = [word for word in sys.argv[1:] if not word.startswith("--")]
planted = "--plant" in sys.argv
tool = os.path.abspath(words[0])
mpqrun = os.path.abspath(words[1]) if len(words) > 1 else None
KILLS = 10 if os.environ.get("MPQ_TEST_LONG") else 3
SIDE = 12
# Two threads that wait for each other by spinning take a busy machine's cores from each other.
environment = dict(os.environ, OMP_WAIT_POLICY="passive")
failures = []


def check(what, ok, *details):
    print(("ok      " if ok else "FAILED  ") + what, flush=True)
    if not ok:
        failures.append(what)
        for detail in details:
            print("        ", str(detail)[:2000])


def run(*arguments):
    done = subprocess.run([tool, *arguments], capture_output=True, text=True, timeout=600, env=environment)
    return done.returncode, done.stdout, done.stderr


def draw(folder, name, count, seed):
    """MNIST's files: three classes of stripes under noise."""
    rng = random.Random(seed)
    pixels, labels = bytearray(), bytearray()
    for i in range(count):
        label = i % 3
        labels.append(label)
        for y in range(SIDE):
            for x in range(SIDE):
                bright = (y % 6 < 3, x % 6 < 3, (x + y) % 6 < 3)[label]
                pixels.append((150 if bright else 60) + rng.randrange(100))
    images = os.path.join(folder, name + "-images-idx3-ubyte")
    with open(images, "wb") as file:
        file.write(struct.pack(">IIII", 0x803, count, SIDE, SIDE) + bytes(pixels))
    with open(os.path.join(folder, name + "-labels-idx1-ubyte"), "wb") as file:
        file.write(struct.pack(">II", 0x801, count) + bytes(labels))
    return images


def killed_until_done(command, checkpoint, seconds):
    """Runs the command, killed at random times, until KILLS runs were killed; then to its end."""
    rng = random.Random(1)
    kills = 0
    for _ in range(4 * KILLS):
        if kills == KILLS:
            break
        child = subprocess.Popen([tool, *command, "--checkpoint", checkpoint], env=environment,
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(rng.uniform(0.05, 0.5) * seconds)
        child.send_signal(signal.SIGKILL)
        if child.wait() == -signal.SIGKILL:
            kills += 1
        elif os.path.isdir(checkpoint):  # it was through already: from the start again
            shutil.rmtree(checkpoint)
        else:
            for path in (checkpoint, checkpoint + ".whole"):
                if os.path.exists(path):
                    os.remove(path)
    code, _, err = run(*command, "--checkpoint", checkpoint)
    return kills, code, err


def read(path):
    with open(path, "rb") as file:
        return file.read()


with tempfile.TemporaryDirectory() as folder:
    train, test = draw(folder, "train", 384, 1), draw(folder, "test", 120, 2)
    at = lambda name: os.path.join(folder, name)
    common = ["--dataset", train, "--test", test, "--batch", "32", "--flip", "--checkpoint-steps", "2", "--json"]
    first = ["train", "resnet8", "--width", "4", "--side", str(SIDE), "--epochs", "4", *common]

    start = time.monotonic()
    code, out, err = run(*first, "-o", at("float.onnx"))
    seconds = time.monotonic() - start
    check("train: exit code", code == 0, err)
    trained = json.loads(out)
    check("train: learns", trained["test_accuracy"] > 0.9, out)

    kills, code, err = killed_until_done([*first, "-o", at("killed.onnx")], at("a.ckpt"), seconds)
    if planted:
        with open(at("killed.onnx"), "r+b") as file:
            file.seek(-5, os.SEEK_END)
            file.write(b"\x55")
    check(f"train: killed {kills} times, the same bytes",
          code == 0 and kills > 2 and read(at("float.onnx")) == read(at("killed.onnx")), err)

    second = ["finetune", at("float.onnx"), "--map", "uniform:4", "--epochs", "3", "--rate", "0.02", *common]
    start = time.monotonic()
    code, out, err = run(*second, "-o", at("net.fb"), "--onnx", at("net.onnx"))
    seconds = time.monotonic() - start
    check("finetune: exit code", code == 0, err)
    tuned = json.loads(out)
    check("finetune: 4 bits as good as float", tuned["test_accuracy"] > trained["test_accuracy"] - 0.03, out)
    kills, code, err = killed_until_done([*second, "-o", at("killed.fb")], at("b.ckpt"), seconds)
    check(f"finetune: killed {kills} times, the same bytes",
          code == 0 and kills > 2 and read(at("net.fb")) == read(at("killed.fb")), err)

    third = ["alps", at("net.onnx"), "--epochs", "1", *common[:2], *common[4:]]
    start = time.monotonic()
    code, out, err = run(*third, "-o", at("gains.json"))
    seconds = time.monotonic() - start
    check("alps: exit code", code == 0, err)
    runs = json.loads(out)["runs"]
    check("alps: a run for the reference and every group, with its time",
          len(runs) == 7 and runs[0]["gain"] == 0 and all(row["seconds"] > 0 for row in runs), out)
    kills, code, err = killed_until_done([*third, "-o", at("killed.json")], at("alps.runs"), seconds)
    if planted:
        with open(at("killed.json"), "a") as file:
            file.write(" ")
    check(f"alps: killed {kills} times, the same bytes",
          code == 0 and kills > 2 and read(at("gains.json")) == read(at("killed.json")), err)
    code, out, err = run(*third, "--jobs", "2", "-o", at("parallel.json"))
    check("alps: two groups at a time, the same bytes",
          code == 0 and read(at("gains.json")) == read(at("parallel.json")), err)

    # Bfloat16 is another run, as good, and scored by what is written.
    code, out, err = run(*second, "--bfloat16", "-o", at("half.fb"), "--onnx", at("half.onnx"))
    half = json.loads(out) if code == 0 else {"test_accuracy": 0}
    check("finetune: in bfloat16 as good", code == 0 and half["test_accuracy"] > trained["test_accuracy"] - 0.03 and
          read(at("half.fb")) != read(at("net.fb")), out, err)
    code, _, err = run(*second, "--bfloat16", "--checkpoint", at("b.ckpt"), "-o", at("x.fb"))
    check("finetune: a checkpoint in binary32 is none of bfloat16", code == 2 and "other options" in err, code, err)

    # A float network goes on from one that train wrote; at a rate of 0 it stays as it is.
    on = ["train", "resnet8", "--init", at("float.onnx"), "--width", "4", "--side", str(SIDE), "--steps", "1", "--rate", "0",
          "--frozen-norms", "1", *common]
    code, out, err = run(*on, "-o", at("longer.onnx"))
    check("train: goes on from a network", code == 0 and
          json.loads(out)["test_accuracy"] == trained["test_accuracy"], out, err)
    code, _, err = run(*[{"resnet8": "resnet14"}.get(word, word) for word in on], "-o", at("x.onnx"))
    check("train: does not go on from another network", code == 2 and "operators" in err, code, err)
    # Without labels: all layers together learn from the float network.
    fourth = ["reconstruct", at("float.onnx"), "--calib", train, "--preset", "small", "--map", "uniform:2", "--ptq-samples",
              "32", "--steps", "0", "--whole-steps", "40", "--batch", "16", "--crop", "1", "--checkpoint-steps", "2", "--json"]
    learning = [*fourth, "--whole-rate", "0.02"]
    start = time.monotonic()
    code, out, err = run(*learning, "-o", at("whole.fb"))
    seconds = time.monotonic() - start
    check("reconstruct: exit code", code == 0, err)
    learned = json.loads(out)["whole"]
    code, out, err = run(*fourth, "--whole-rate", "0", "--held-out", "48", "-o", at("still.fb"))
    still = json.loads(out)["whole"]
    check("reconstruct: nearer to float than without a move", learned["loss"] < 0.95 * still["loss"], learned, still)
    check("reconstruct: what came no nearer is not kept", still["after"] == still["before"] and not still["kept"] and
          learned["kept"] and read(at("whole.fb")) != read(at("still.fb")), learned, still)
    kills, code, err = killed_until_done([*learning, "-o", at("killed-whole.fb")], at("c.ckpt"), seconds)
    if planted:
        with open(at("killed-whole.fb"), "ab") as file:
            file.write(b" ")
    check(f"reconstruct: killed {kills} times, the same bytes",
          code == 0 and kills > 2 and read(at("whole.fb")) == read(at("killed-whole.fb")), err)
    code, _, err = run(*fourth, "--held-out", "384", "-o", at("x.fb"))
    check("reconstruct: all images held out", code == 2 and "384 of 384 images" in err, code, err)

    # Odd numbers of images: oneDNN 2.6 alone writes past its buffers.
    code, _, err = run("finetune", at("float.onnx"), "--map", "uniform:4", "--epochs", "1", "--dataset", train, "--batch",
                       "3", "-q", "-o", at("odd.fb"))
    check("finetune: an odd batch", code == 0, err)

    # A map by each selector, from the trained network; all of them on one page.
    words = ["eagl", "alps", "hawq", "fit", "sqnr", "lsq-step", "constant", "first-to-last", "last-to-first", "random"]
    maps = [f"{word}:budget=0.8,samples=32,probes=2,steps=2" + (f",file={at('gains.json')}" if word == "alps" else "")
            for word in words]
    for word, spec in zip(words, maps):
        code, out, err = run("search", at("net.onnx"), "--map", spec, "--dataset", train, "-q")
        check(f"search: {word}", code == 0 and json.loads(out)["method"] == word and
              abs(json.loads(out)["budget"] - 0.8) < 1e-9, out, err)
    code, out, err = run("report", at("net.onnx"), *[word for spec in maps for word in ("--map", spec)], "--dataset",
                         train, "-q", "-o", "-")
    page = out if not planted else out.replace("</svg>", "", 1)
    check("report: a page that fetches nothing, well formed, with every map and layer",
          code == 0 and not [w for w in ("http", "src=", "<script", "@import", "url(") if w in page] and
          page.count("<svg") == page.count("</svg>") == 3 and all(spec in page for spec in maps) and
          all(name in page for name in ("conv1", "layer2.0.shortcut")), err, page[-500:])
    code, _, err = run("search", at("net.onnx"), "--map", "hawk:budget=0.8")
    check("search: an unknown method is answered with all of them", code == 2 and "did you mean 'hawq'" in err and
          all(word in err for word in words), err)

    # The trained 4-bit network as a start for a mix, by the entropies of its own codes.
    code, out, err = run("finetune", at("net.onnx"), "--teacher", at("float.onnx"), "--map", "eagl:budget=0.75",
                         "--epochs", "2", "--rate", "0.01", *common, "-o", at("mixed.fb"))
    check("finetune: a mix from the trained network", code == 0 and
          json.loads(out)["test_accuracy"] > trained["test_accuracy"] - 0.06, out, err)

    if mpqrun is not None:
        scored = subprocess.run([mpqrun, "eval", at("net.fb"), "--dataset", test, "--json"], capture_output=True,
                                text=True, timeout=600)
        top1 = json.loads(scored.stdout)["top1"] if scored.returncode == 0 else -1
        if planted:
            top1 -= 0.02
        rounded = subprocess.run([mpqrun, "eval", at("half.fb"), "--dataset", test, "--json"], capture_output=True,
                                 text=True, timeout=600)
        check("runtime: the accuracy of a run in bfloat16", rounded.returncode == 0 and
              abs(json.loads(rounded.stdout)["top1"] - half["test_accuracy"]) < 0.009, rounded.stdout, half)
        check("runtime: the accuracy that training computed", abs(top1 - tuned["test_accuracy"]) < 0.009,
              scored.stdout, scored.stderr, tuned)
    else:
        print("SKIPPED: runtime accuracy: no mpqrun")

    code, _, err = run("finetune", at("net.onnx"), "--map", "uniform:4", *common, "--checkpoint", at("a.ckpt"),
                       "-o", at("x.fb"))
    check("finetune: another run's checkpoint is refused", code == 2 and "other options" in err, code, err)
    code, _, err = run("train", "resnet9", *common, "-o", at("x.onnx"))
    check("train: unknown network", code == 2 and "resnet20" in err, code, err)
    code, _, err = run("train", "resnet8", "--side", str(SIDE), "--rate", "1e30", *common, "-o", at("x.onnx"))
    check("train: what is not finite is named", code == 1 and "not finite" in err, code, err)

print(f"{len(failures)} failures")
sys.exit(1 if failures else 0)
