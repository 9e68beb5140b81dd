#!/usr/bin/env python3
"""Compares what a program's --help says with its manual page and its completions, option by option, and
each check with the same file after an option was taken out of it.

  check_manual.py page|bash|zsh|lint PROGRAM FILE
"""
import re
import shutil
import subprocess
import sys
import tempfile


def said(*words):
    return subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60).stdout


def options_in(help_text):
    found = set()
    for line in help_text.splitlines():
        flags = re.match(r" {2,}((?:--?[\w-]+(?:, ?|\b))+)", line)
        if flags:
            found |= set(re.findall(r"--?[\w-]+", flags.group(1)))
    return found


def subcommands(text):
    return text.partition("Subcommands:")[2].partition("\n\n")[0]


def commands_of(program):
    """{(words of a command): its options}; the program's own are those of ()."""
    first = said(program, "--help")
    found = {(): options_in(first)}
    listed = subcommands(first) or first.partition("usage:")[2]
    for word in dict.fromkeys(re.findall(r"^  ([a-z]+) +\S", listed, re.M)):
        text = said(program, word, "--help")
        if text == first or not options_in(text):
            continue
        everything = options_in(text) | options_in(said(program, word, "--help-all"))
        found[(word,)] = everything
        for inner in re.findall(r"^  ([a-z]+) +\S", subcommands(text), re.M):
            found[(word, inner)] = options_in(said(program, word, inner, "--help"))
    return found


def missing_in_page(commands, name, source):
    text = re.sub(r"\\f[BIR]", "", source).replace("\\-", "-")
    terms = "\n".join(re.findall(r"^\.TP\n(.*)", text, re.M))
    missing = [option for options in commands.values() for option in options
               if not re.search(rf"(^|[ ,]){option}($|[ ,\[])", terms, re.M)]
    return missing + [word for words in commands for word in words if not re.search(rf"^(\S+ )?{word}$", terms, re.M)]


def completed(shell, name, source, words):
    """What the shell offers for an option behind `words`."""
    with tempfile.NamedTemporaryFile("w", suffix=name) as file:
        file.write(source)
        file.flush()
        line = " ".join([name, *words, "-"])
        script = {"bash": f"source {file.name}; COMP_WORDS=({line}); COMP_CWORD={len(words) + 1}; _{name};"
                          ' printf "%s\\n" "${COMPREPLY[@]}"',
                  "zsh": f'_arguments() {{ print -rl -- "$@" }}; _describe() {{ }}; words=({line}); '
                         f"CURRENT={len(words) + 2}; source {file.name}"}[shell]
        done = subprocess.run([shell, *(["-f"] if shell == "zsh" else ["--norc"]), "-c", script], capture_output=True,
                              text=True, timeout=60)
    if done.returncode or done.stderr:
        sys.exit(f"{shell}: {done.stderr}")
    if shell == "bash":
        return set(done.stdout.split())
    return {spec.group(1) for spec in re.finditer(r"^\*(--?[\w-]+)(?:=-?)?\[", done.stdout, re.M)}


def missing_in_shell(shell):
    def check(commands, name, source):
        wrong = []
        for words, options in commands.items():
            offered = {option for option in completed(shell, name, source, words) if option.startswith("-")}
            # `map edit` takes the options of `map`, no command takes those of the default.
            more = commands[words[:-1]] if len(words) > 1 else offered if not words else set()
            wrong += [f"{' '.join(words)} {option}" for option in (options - offered) | (offered - options - more)]
        return wrong
    return check


def lint(page):
    """Both formatters, every message counts."""
    wrong = said("mandoc", "-T", "lint", page)
    formatted = subprocess.run(["man", "--warnings", "-l", "-Tutf8", page], stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE, text=True, timeout=60, env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"})
    return wrong + formatted.stderr


def check_lint(page):
    for tool in ("mandoc", "man"):
        if not shutil.which(tool):
            print(f"SKIPPED: lint of {page}: no {tool} (Debian: mandoc, man-db)")
            return 77
    wrong = lint(page)
    with tempfile.NamedTemporaryFile("w", suffix=".1") as planted:
        with open(page, encoding="ascii") as file:
            planted.write(file.read().replace(".SH DESCRIPTION", ".SH DESCRIPTION\n.nosuchrequest", 1)
                          .replace(".SH OPTIONS", ".SH OPTIONS\n.nosuchrequest", 1))
        planted.flush()
        if "nosuchrequest" not in lint(planted.name):
            wrong += "lint: accepted a request that is none\n"
    print(wrong, end="")
    return 1 if wrong else 0


def main():
    what, program, path = sys.argv[1:]
    if what == "lint":
        return check_lint(path)
    if what != "page" and not shutil.which(what):
        print(f"SKIPPED: completion of {path}: no {what}")
        return 77
    check = missing_in_page if what == "page" else missing_in_shell(what)
    name = program.rsplit("/", 1)[-1]
    commands = commands_of(program)
    with open(path, encoding="ascii") as file:
        source = file.read()
    wrong = check(commands, name, source)
    for line in wrong:
        print(f"{path}: {line}: in --help or here, not in both")
    count = sum(len(options) for options in commands.values())
    print(f"{name}: {len(commands)} commands, {count} options")
    if count < 10:
        wrong.append("hardly any option was found")
    for option in (max(max(commands.values(), key=len), key=len), "--help"):
        forms = "|".join(re.escape(form) for form in (option, option.replace("-", "\\-")))
        planted = re.sub(rf"({forms})(?![a-z-]|\\-)", "gone", source)
        if not check(commands, name, planted):
            wrong.append(f"{path}: the check does not see that {option} is gone")
            print(wrong[-1])
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
