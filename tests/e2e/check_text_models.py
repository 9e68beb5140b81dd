#!/usr/bin/env python3
"""Encoders from a folder to answers: mpqconvert and mpqrun from the outside. Standard library only.

   check_text_models.py MPQCONVERT MPQRUN
"""
import json
import math
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import zlib

mpqconvert, mpqrun = (os.path.abspath(path) for path in sys.argv[1:3])
failures = []

WORDS = """[PAD] [UNK] [CLS] [SEP] [MASK] a the cat dog bird sat ran flew on under over mat tree house red small old
##s ##ing . , who where""".split()
WIDTH, WIDE, HEADS, LAYERS, LENGTH = 16, 32, 2, 2, 24


def run(tool, *words):
    done = subprocess.run([tool, *words], capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout, done.stderr


def convert(*words):
    return run(mpqconvert, *words)


def ask(*words):
    return run(mpqrun, *words)


def check(what, ok, *details):
    print(("ok      " if ok else "FAILED  ") + what)
    if not ok:
        failures.append(what)
        for detail in details:
            print("        ", str(detail)[:2000])


def document(text):
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return {}


# ---- folders as Hugging Face's tools write them


def write(path, content):
    if os.path.dirname(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as out:
        out.write(content if isinstance(content, bytes) else content.encode())
    return path


def safetensors(tensors):
    header, data = {}, b""
    for name, (shape, values) in tensors.items():
        part = struct.pack(f"<{len(values)}f", *values)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(part)]}
        data += part
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def encoder(folder, architecture, seed=1):
    rng = random.Random(seed)
    mpnet = architecture.startswith("MPNet")
    tensors = {}

    def make(name, shape, deviation, mean=0.0):
        tensors[name] = (shape, [rng.gauss(mean, deviation) for _ in range(math.prod(shape))])

    def linear(name, outputs, inputs):
        make(name + ".weight", [outputs, inputs], 1.0 / math.sqrt(inputs))
        make(name + ".bias", [outputs], 0.1)

    def norm(name):
        make(name + ".weight", [WIDTH], 0.1, 1.0)
        make(name + ".bias", [WIDTH], 0.1)

    positions = LENGTH + 1 if mpnet else LENGTH  # padding is word 0, the first position 1
    make("embeddings.word_embeddings.weight", [len(WORDS) + 3, WIDTH], 1.0)
    make("embeddings.position_embeddings.weight", [positions, WIDTH], 0.2)
    if mpnet:
        make("encoder.relative_attention_bias.weight", [32, HEADS], 0.5)
    else:
        make("embeddings.token_type_embeddings.weight", [2, WIDTH], 0.2)
    norm("embeddings.LayerNorm")
    names = (["attention.attn." + part for part in "qkvo"] + ["attention.LayerNorm"] if mpnet else
             ["attention.self." + part for part in ("query", "key", "value")]
             + ["attention.output.dense", "attention.output.LayerNorm"])
    for i in range(LAYERS):
        at = f"encoder.layer.{i}."
        for name in names[:4]:
            linear(at + name, WIDTH, WIDTH)
        norm(at + names[4])
        linear(at + "intermediate.dense", WIDE, WIDTH)
        linear(at + "output.dense", WIDTH, WIDE)
        norm(at + "output.LayerNorm")
    config = {"architectures": [architecture], "model_type": "mpnet" if mpnet else "bert", "hidden_act": "gelu",
              "hidden_size": WIDTH, "intermediate_size": WIDE, "num_attention_heads": HEADS, "num_hidden_layers": LAYERS,
              "max_position_embeddings": positions, "vocab_size": len(WORDS) + 3, "pad_token_id": 0, "layer_norm_eps": 1e-5}
    if architecture.endswith("SequenceClassification"):
        linear("pooler.dense", WIDTH, WIDTH)
        linear("classifier", 3, WIDTH)
        config["id2label"] = {"0": "no", "1": "maybe", "2": "yes"}
    if architecture.endswith("QuestionAnswering"):
        linear("qa_outputs", 2, WIDTH)
    write(folder + "/config.json", json.dumps(config))
    write(folder + "/model.safetensors", safetensors(tensors))
    write(folder + "/vocab.txt", "".join(word + "\n" for word in WORDS))
    write(folder + "/tokenizer_config.json", json.dumps({"do_lower_case": True}))
    if architecture in ("BertModel", "MPNetModel"):
        module = "sentence_transformers.models."
        write(folder + "/modules.json", json.dumps([
            {"path": "", "type": module + "Transformer"}, {"path": "1_Pooling", "type": module + "Pooling"},
            {"path": "2_Normalize", "type": module + "Normalize"}]))
        write(folder + "/1_Pooling/config.json", json.dumps(
            {"word_embedding_dimension": WIDTH, "pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}))
    return folder


def sentence(rng):
    words = [word for word in WORDS[5:] if not word.startswith("##") and word not in ".,"]
    return " ".join(rng.choice(words) for _ in range(rng.randrange(3, 12))) + "."


def png(path):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    return write(path, b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0))
                 + chunk(b"IDAT", zlib.compress((b"\0" + b"\x80" * 24) * 8)) + chunk(b"IEND", b""))


# ---- what is checked


def check_sentences(name):
    folder = encoder(name, {"bert": "BertModel", "mpnet": "MPNetModel"}[name])
    common = [folder, "--calib", "txt:texts.txt", "-q"]
    code, out, err = convert(*common, "-o", name + ".fb", "--report", "report.json")
    check(f"{name}: a folder converts", code == 0, code, out, err)
    report = document(open("report.json").read()) if code == 0 else {}
    check(f"{name}: the report counts texts and layers", report.get("calibration_texts") == 60
          and len(report.get("quantisation", {}).get("layers", [])) == 6 * LAYERS, report)
    convert(*common, "-o", "again.fb")
    check(f"{name}: a conversion repeats byte for byte", open(name + ".fb", "rb").read() == open("again.fb", "rb").read())
    pair = "The cat sat on a mat | a DOG ran under the tree"
    code, out, err = ask(name + ".fb", "-i", pair, "--json")
    ours = (document(out).get("results") or [{}])[0].get("cosine")
    float_code, float_out, float_err = convert("evaluate", folder, "-i", pair, "--json", "-q")
    real = (document(float_out).get("results") or [{}])[0].get("cosine")
    check(f"{name}: the cosine of two texts is that of the float network", code == 0 and float_code == 0
          and ours is not None and abs(ours - real) < 0.03, ours, real, err, float_err)
    same = "the old bird flew | the old bird flew"
    cosine = (document(ask(name + ".fb", "-i", same, "--json")[1]).get("results") or [{}])[0].get("cosine", 0)
    check(f"{name}: a text is like itself", abs(cosine - 1.0) < 1e-6, cosine)

    code, out, err = ask(name + ".fb", "--eval", "--dataset", "stsb:pairs.csv", "--json")
    found = document(out)
    code_float, out_float, _ = convert("evaluate", folder, "--dataset", "stsb:pairs.csv", "--json", "-q")
    wanted = document(out_float)
    check(f"{name}: --eval correlates a set as float does", code == 0 and code_float == 0 and found.get("samples") == 30
          and found.get("sequences") == 60 and abs(found["spearman"] - wanted["spearman"]) < 0.1, err, found, wanted)
    code, out, err = ask(name + ".fb", "--bench", "--seq-len", "5,24", "-b", "1,3", "--duration", "0.02", "--warmup", "0", "--json")
    check(f"{name}: --bench times each length and batch", code == 0 and len(document(out).get("results", [])) == 4, code, out, err)
    code, _, err = ask(name + ".fb", "--bench", "--seq-len", "25", "--duration", "0.01")
    check(f"{name}: sequences too long to time are refused by number", code == 2 and "25" in err and "24" in err, code, err)
    check(f"{name}: all kernels give the same", ask("verify", name + ".fb", "--against", "reference")[0] == 0)
    for words in ["uniform:4/8", "uniform:4", "eagl:budget=0.8"]:
        code, _, err = convert(*common, "--map", words, "-o", "mixed.fb")
        check(f"{name}: converts with --map {words} and runs", code == 0 and ask("mixed.fb", "-i", "a cat | a dog")[0] == 0, code, err)


def check_heads():
    encoder("classes", "BertForSequenceClassification")
    code, _, err = convert("classes", "--calib", "txt:texts.txt", "-o", "classes.fb", "-q")
    check("classes: a folder converts", code == 0, code, err)
    code, out, err = ask("classes.fb", "-i", "the cat sat", "-i", "a dog | the tree", "--json")
    results = document(out).get("results", [])
    check("classes: one text and two are classified by name", code == 0 and len(results) == 2
          and all({top["label"] for top in result["top"]} == {"no", "maybe", "yes"} for result in results), out, err)
    write("labelled.tsv", "sentence\tlabel\nthe cat\t0\na dog\t1\nwho ran\t2\n")
    code, out, err = ask("classes.fb", "--eval", "--dataset", "glue-tsv:labelled.tsv", "--json")
    check("classes: --eval counts right ones", code == 0 and 0.0 <= document(out).get("accuracy", -1) <= 1.0, out, err)
    code, _, err = ask("classes.fb", "--eval", "--dataset", "stsb:pairs.csv")
    check("classes: a set of similarities is refused", code == 2 and "texts with a class" in err, code, err)
    code, _, err = convert("evaluate", "classes", "--dataset", "stsb:pairs.csv")
    check("classes: evaluate takes sentence encoders only", code == 5 and "pooling" in err, code, err)

    encoder("answers", "BertForQuestionAnswering")
    code, _, err = convert("answers", "--calib", "txt:texts.txt", "-o", "answers.fb", "-q")
    check("answers: a folder converts", code == 0, code, err)
    passage = " ".join(["the old cat sat under a small red tree ."] * 6)
    code, out, err = ask("answers.fb", "-i", "who sat | " + passage, "--json")
    answer = (document(out).get("results") or [{}])[0].get("answer", "?")
    check("answers: a part of a passage longer than the model is found, without a warning", code == 0
          and answer in passage and "cut" not in err, out, err)
    code, _, err = ask("answers.fb", "-i", "who sat")
    check("answers: a question needs a passage", code == 2 and "passage" in err, code, err)
    code, _, err = ask("answers.fb", "-i", " ".join(["who"] * 40) + " | the cat")
    check("answers: a question that fills the model is refused by number", code == 2 and "24" in err, code, err)


def check_training():
    """A classifier on the encoder `bert`, learned from texts with classes, then on codes."""
    rng = random.Random(7)

    def labelled(path, count):
        texts = [sentence(rng) for _ in range(count)]
        write(path, "sentence\tlabel\n" + "".join(f"{text}\t{int('cat' in text)}\n" for text in texts))
        return "glue-tsv:" + path

    train, test = labelled("train.tsv", 320), labelled("test.tsv", 100)
    common = ["--dataset", train, "--test", test, "--rate", "0.003", "--epochs", "12", "--json", "-q"]
    code, out, err = convert("train", "bert", *common, "-o", "trained")
    learned = document(out)
    check("train: an encoder becomes a classifier", code == 0 and learned.get("test_accuracy", 0) > 0.9
          and learned.get("steps") == 120 and learned.get("test_texts") == 100, code, out, err)
    config = document(open("trained/config.json").read()) if code == 0 else {}
    check("train: the folder is one of a classifier", config.get("architectures") == ["BertForSequenceClassification"]
          and config.get("id2label") == {"0": "LABEL_0", "1": "LABEL_1"}, config)
    for words, bound in [(["convert", "trained", "--map", "uniform:8"], 0.05),
                         (["reconstruct", "trained", "--map", "uniform:4", "--steps", "100", "--bfloat16"], 0.1)]:
        code, _, err = convert(*words, "--calib", train, "-o", "trained.fb", "-q")
        code = code or ask("trained.fb", "--eval", "--dataset", test)[0]
        got = document(ask("trained.fb", "--eval", "--dataset", test, "--json")[1]).get("accuracy", 0)
        check(f"train: the runtime is as good after {words[0]}", code == 0 and got > learned["test_accuracy"] - bound,
              got, learned, err)
    code, out, _ = convert("train", "trained", "--dataset", train, "--test", test, "--steps", "1", "--rate", "1e-9",
                           "-o", "same", "--json", "-q")
    check("train: goes on from a classifier", code == 0 and
          abs(document(out).get("test_accuracy", 0) - learned["test_accuracy"]) < 1e-9, out)
    for what, words, parts in [
            ("texts without classes", ["bert", "--dataset", "txt:texts.txt"], ["0 classes"]),
            ("an encoder of another kind", ["mpnet", "--dataset", train], ["mpnet", "BERT"]),
            ("its own folder", ["bert", "--dataset", train, "--steps", "1", "-o", "bert"], ["bert"])]:
        code, _, err = convert("train", *words, *([] if "-o" in words else ["-o", "none.fb"]), "-q")
        check(f"train: {what}: refused", code in (2, 5) and all(part in err for part in parts), code, err)


def check_refusals():
    folder = "bert"
    calib = ["--calib", "txt:texts.txt", "-o", "none.fb", "-q"]

    def broken(change):
        shutil.rmtree("broken", ignore_errors=True)
        shutil.copytree(folder, "broken")
        change()
        return convert("broken", *calib)

    code, _, err = broken(lambda: os.remove("broken/vocab.txt"))
    check("a folder without a vocabulary is refused by its name", code == 3 and "vocab.txt" in err, code, err)
    code, _, err = broken(lambda: write("broken/vocab.txt", "".join(w + "\n" for w in WORDS + ["cat"])))
    check("a word that is there twice is refused", code == 4 and "'cat'" in err and str(len(WORDS)) in err, code, err)
    code, _, err = broken(lambda: write("broken/vocab.txt", "".join(w + "\n" for w in WORDS + ["x1", "x2", "x3", "x4"])))
    check("more words than the network has are refused", code == 4 and str(len(WORDS) + 4) in err, code, err)
    code, _, err = broken(lambda: write("broken/vocab.txt", b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n\xff\xfe\n"))
    check("a vocabulary that is no UTF-8 is refused before calibrating", code == 5 and "token 4" in err and "vocab.txt" in err, code, err)
    size = os.path.getsize(folder + "/model.safetensors")
    for left in (size - 1, size // 2, 10, 0):
        code, _, err = broken(lambda left=left: os.truncate("broken/model.safetensors", left))
        check(f"weights cut to {left} bytes are refused", code == 4 and "model.safetensors" in err, code, err)
    code, _, err = broken(lambda: os.truncate("broken/config.json", 20))
    check("settings cut short are refused", code == 4 and "config.json" in err, code, err)
    nan = struct.pack("<f", float("nan"))
    weights = open(folder + "/model.safetensors", "rb").read()
    code, _, err = broken(lambda: write("broken/model.safetensors", weights[:-64] + nan + weights[-60:]))
    check("a weight that is no number is refused", code == 4 and " is nan at " in err, code, err)
    code, _, err = convert(folder, "-o", "none.fb", "-q")
    check("a network of texts asks for texts", code == 2 and "--calib" in err and "txt:" in err, code, err)
    code, _, err = convert(folder, "--calib", "images", "-o", "none.fb", "-q")
    check("a network of texts is not calibrated on images", code == 2 and "images" in err, code, err)
    code, _, err = convert(folder, *calib, "--accumulators")
    check("--accumulators is for classifiers of images", code == 2 and "--accumulators" in err, code, err)
    code, _, err = convert(folder, *calib, "--max-tokens", "25")
    check("more tokens than positions are refused by number", code == 2 and "25" in err and "24" in err, code, err)
    for kind in ["bert", "mpnet"]:
        code, _, err = convert("calibrate", kind, "--calib", "images", "-q")
        check(f"calibrate is for networks of images, not {kind}", code in (2, 5) and kind in err, code, err)
    check("no failed run left a file behind", not os.path.exists("none.fb"))

    # A map that splits query, key and value.
    code, _, err = convert("search", folder, "--budget", "1", "-o", "map.json")
    check("a map is searched for an encoder", code == 0, code, err)
    code, _, err = convert("map", "edit", "map.json", "--set", "encoder.layer.0.attention.self.key=2/4", "-o", "split.json")
    if code == 0:  # the widths that they read are the same, so only the conversion can know
        code, _, err = convert(folder, *calib, "--map", "split.json")
    check("query, key and value cannot part", code == 2 and "attention.self.key" in err and not os.path.exists("none.fb"), code, err)

    # Files and texts given to mpqrun.
    model = open("bert.fb", "rb").read()
    for left in (len(model) - 1, len(model) // 2, 100, 0):
        write("cut.fb", model[:left])
        code, _, err = ask("cut.fb", "-i", "a cat | a dog")
        check(f"a model cut to {left} bytes is refused", code == 4 and "cut.fb" in err, code, err)
    long_text = " ".join(["cat"] * 50)
    code, _, err = ask("bert.fb", "-i", long_text)
    check("a text too long is cut, with one warning and its numbers", code == 0 and err.count("cut to 24 tokens, 28 did not fit") == 1, code, err)
    code, _, err = ask("bert.fb", "-i", "  ")
    check("an empty text is refused", code == 2 and "empty" in err, code, err)
    picture = png("picture.png")
    code, _, err = ask("bert.fb", "-i", picture)
    check("a picture is no text", code == 2 and picture in err and "text" in err, code, err)
    code, _, err = ask("bert.fb", "--eval", "--dataset", "imagenet:images")
    check("a set of pictures is no set of texts", code in (2, 3, 4) and "images" in err, code, err)
    code, _, err = ask("bert.fb", "--eval", "--dataset", "stsb:texts.txt")
    check("a set in another format is refused by line", code == 4 and "texts.txt" in err, code, err)


def main():
    rng = random.Random(3)
    write("texts.txt", "".join(sentence(rng) + "\n" for _ in range(60)))
    write("pairs.csv", "".join(f"main\tmade\t2026\t{i:04}\t{i % 6}.0\t{sentence(rng)}\t{sentence(rng)}\n" for i in range(30)))
    os.mkdir("images")
    png("images/a.png")
    for name in ["bert", "mpnet"]:
        check_sentences(name)
    check_heads()
    check_training()
    check_refusals()
    print(f"{len(failures)} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="mpq_texts_") as folder:
        os.chdir(folder)
        status = main()
        os.chdir("/")
    sys.exit(status)
