#!/usr/bin/env python3
"""Runs the commands of the guide, in its order, in one shell and one empty folder; the first that fails
is named with its line. Blocks of "sh install" are for a system of its own (--install).

  docs/check_guide.py GUIDE MODEL_FOLDER [--install]      MODEL_FOLDER: all-MiniLM-L6-v2
"""
import os
import re
import subprocess
import sys
import tempfile


def blocks_of(text):
    """(line, language and words, code) of each fenced block."""
    for block in re.finditer(r"^```([^\n]*)\n(.*?)^```$", text, re.M | re.S):
        yield text.count("\n", 0, block.start()) + 2, block.group(1).split(), block.group(2)


def script_of(text, install):
    """One script for bash; what it cannot run, it names."""
    script = "set -eu\n"
    for line, words, code in blocks_of(text):
        if not words or words[0] not in ("sh", "python"):
            sys.exit(f"guide: line {line}: a block of {words or 'nothing'} is not run by anybody")
        if "install" in words and not install:
            continue
        script += f"line={line}\necho '== line {line}' >&2\n"
        script += code if words[0] == "sh" else f"python3 - <<'END_OF_PYTHON'\n{code}END_OF_PYTHON\n"
    return script


def run(script, folder):
    trap = 'line=0; trap \'s=$?; [ $s = 0 ] || echo "guide: the block of line $line: status $s" >&2; kill $(jobs -p) 2>/dev/null || :\' EXIT\n'
    return subprocess.run(["bash", "-c", trap + script], cwd=folder, timeout=900, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def main():
    guide, model = sys.argv[1:3]
    install = "--install" in sys.argv[3:]
    if not os.path.exists(os.path.join(model, "model.safetensors")):
        print(f"SKIPPED: guide: no {model} (scripts/fetch_text_models.sh)")
        return 77
    with open(guide, encoding="utf-8") as file:
        text = file.read()
    with tempfile.TemporaryDirectory() as folder:
        os.symlink(os.path.abspath(model), os.path.join(folder, "all-MiniLM-L6-v2"))
        for package in os.listdir("."):
            if install and package.endswith(".deb"):
                os.symlink(os.path.abspath(package), os.path.join(folder, package))
        done = run(script_of(text, install), folder)
    # A block that fails must be seen, by its line.
    planted = script_of("```sh\ntrue\n```\n\n```sh\nfalse\ntrue\n```\n", install)
    seen = run(planted, "/")
    if seen.returncode == 0 or "the block of line 6" not in seen.stdout:
        print("guide: the check does not see a command that fails")
        return 1
    if done.returncode or "-v" in sys.argv:
        print(done.stdout)
    print(f"guide: {script_of(text, install).count('line=')} blocks, status {done.returncode}")
    return 1 if done.returncode else 0


if __name__ == "__main__":
    sys.exit(main())
