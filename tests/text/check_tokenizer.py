"""Tokens and their places against Hugging Face's tokenizers: on all texts of the data folder, and on
fuzzed Unicode strings. Needs the package `tokenizers`.

  check_tokenizer.py TOKENS FOLDER... [--data FOLDER] [--fuzz N] [--plant]
"""

import argparse
import random
import subprocess
import sys
import tarfile
from pathlib import Path

import tokenizers

# Ranges from which fuzzed characters come: scripts, marks, controls, symbols, private use.
RANGES = [(0x20, 0x7F), (0x0, 0x20), (0x80, 0x250), (0x250, 0x370), (0x370, 0x590), (0x590, 0x780), (0x900, 0xE80),
          (0x1100, 0x1200), (0x1E00, 0x2100), (0x2100, 0x2C00), (0x3000, 0x3400), (0x3400, 0x4DC0), (0x4E00, 0xA000),
          (0xAC00, 0xD7A4), (0xE000, 0xE100), (0xF900, 0x10000), (0x10000, 0x10200), (0x1D400, 0x1D800),
          (0x1F300, 0x1FA00), (0x20000, 0x20100), (0x2B740, 0x2CEB0), (0x2F800, 0x2FA20), (0xE0000, 0xE0080)]
PIECES = ["[SEP]", "[CLS]", "[MASK]", "[PAD]", "[UNK]", "<s>", "</s>", "<mask>", "[sep]", "the", "ing", "##ing", "İ", "ß",
          "ǅ", "ﬁ", "é", "é", "ạ̈", "한국어", "中文", "don't", "...", "--", "\u200b", "\ufeff", "\ufffd",
          " ", "\n", "\t", "\r\n", "a" * 100, "b" * 101, "ä" * 100]


def fuzzed(count):
    rng = random.Random(20261127)
    for _ in range(count):
        parts = []
        for _ in range(rng.randrange(1, 24)):
            if rng.random() < 0.3:
                parts.append(rng.choice(PIECES))
            else:
                low, high = rng.choice(RANGES)
                parts.extend(chr(rng.randrange(max(low, 1), high)) for _ in range(rng.randrange(1, 5)))
        yield "".join(parts)


def texts_of(data):
    for archive in sorted(Path(data).glob("*.tar.gz")):
        if archive.name in ("cifar10_jpeg.tar.gz",):
            continue
        with tarfile.open(archive) as tar:
            for member in tar:
                if not member.isfile():
                    continue
                body = tar.extractfile(member).read().decode("utf-8", "replace")
                for line in body.replace("\0", "").splitlines():
                    yield from (field for field in line.split("\t") if field.strip())


def places(text, offsets):
    """Offsets of characters as offsets of bytes."""
    at = [0]
    for character in text:
        at.append(at[-1] + len(character.encode()))
    return [(at[begin], at[end]) for begin, end in offsets]


def compare(program, folder, texts, plant):
    theirs = tokenizers.Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
    theirs.no_truncation()
    theirs.no_padding()
    mask = {i for i in range(theirs.get_vocab_size()) if (theirs.id_to_token(i) or "") == "<mask>"}
    given = b"\0".join(text.encode() for text in texts) + b"\0"
    lines = subprocess.run([program, folder], input=given, stdout=subprocess.PIPE, check=True).stdout.splitlines()
    if len(lines) != len(texts):
        sys.exit(f"check_tokenizer: {len(lines)} answers for {len(texts)} texts")
    differences, tokens = 0, 0
    for start in range(0, len(texts), 2000):
        batch = texts[start:start + 2000]
        for text, encoding, line in zip(batch, theirs.encode_batch(batch), lines[start:start + 2000]):
            ours = [tuple(map(int, word.split(b":"))) for word in line.split()]
            if plant and start == 0 and text is batch[0]:
                ours[-1] = (ours[-1][0] + 1, 0, 0)
            want = [(i, b, e) for i, (b, e) in zip(encoding.ids, places(text, encoding.offsets))]
            tokens += len(want)
            # <mask> takes the space before it along; its place is not compared.
            same = len(ours) == len(want) and all(
                a == b or (a[0] == b[0] and a[0] in mask) for a, b in zip(ours, want))
            if not same:
                differences += 1
                if differences <= 3:
                    print(f"differ: {text!r}\n  ours   {ours}\n  theirs {want}")
    print(f"{folder}: {len(texts)} texts, {tokens} tokens, {differences} texts differ")
    return differences


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--data")
    parser.add_argument("--fuzz", type=int, default=100000)
    parser.add_argument("--plant", action="store_true", help="change one token: the check must fail")
    options = parser.parse_args()
    fuzz = list(fuzzed(options.fuzz))
    texts = sorted(set(texts_of(options.data))) if options.data else []
    print(f"tokenizers {tokenizers.__version__}; {len(texts)} different texts of the data, {len(fuzz)} fuzzed strings")
    wrong = 0
    for folder in options.folders:
        for part in (texts, fuzz):
            wrong += compare(options.program, folder, part, options.plant) if part else 0
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
