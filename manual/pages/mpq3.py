#!/usr/bin/env python3
"""Prints mpq(3), the page of the C API, from the header: its conventions, then section by section every
declaration, with the comments that stand above it as text.

  mpq3.py mpq.h DATE VERSION > mpq.3
"""
import re
import sys
import textwrap


def escaped(text):
    for plain, roff in (("\\", "\\e"), ("-", "\\-"), ("'", "\\(aq"), ("`", "\\(ga"), ("^", "\\(ha"), ("~", "\\(ti")):
        text = text.replace(plain, roff)
    return "\n".join("\\&" + line if line.startswith(".") else line for line in text.split("\n"))


def filled(text):
    return "\n".join("\\&" + line if line[:1] in (".", "'") else line
                     for line in textwrap.wrap(escaped(text), 79, break_long_words=False, break_on_hyphens=False)) + "\n"


def example(text):
    return f".EX\n{escaped(text)}\n.EE\n"


def comment_text(comment):
    """The words of /* ... */, its lines joined."""
    return " ".join(line.strip().removeprefix("*").strip() for line in comment[2:-2].strip().split("\n")).strip()


def conventions(comment):
    """The header's first comment: a summary, an example that is indented by three, numbered conventions."""
    lines = [line.strip().removeprefix("*").removeprefix(" ") for line in comment[2:-2].strip().split("\n")]
    shown = [line[2:] for line in lines if line.startswith("  ") and not re.match(r" *\d+\.", line)]
    text = filled(lines[0]) + ".PP\n" + example("\n".join(shown))
    numbered = re.split(r"(?:^|(?<= ))(\d+)\.  ?", " ".join(lines[lines.index("Conventions") + 1:]).strip())
    text += ".SH CONVENTIONS\n"
    # A number is one of the list only when it is the next of it.
    items, want = [], 1
    for number, body in zip(numbered[1::2], numbered[2::2]):
        if int(number) == want:
            items.append(body.strip())
            want += 1
        else:
            items[-1] += f" {number}. {body.strip()}"
    return text + "".join(f".IP {n}. 4\n{filled(body)}" for n, body in enumerate(items, 1))


def chunks(text):
    """(comment, code) for each piece between empty lines that declares something; code keeps its own comments."""
    for piece in re.split(r"\n\s*\n", text):
        piece = piece.strip("\n")
        while piece:
            leading = re.match(r"\s*(/\*.*?\*/)[ \t]*\n", piece, re.S)
            comment = leading.group(1) if leading else ""
            code = piece[leading.end():] if leading else piece
            # A comment at a line's beginning opens the next one.
            following = re.search(r"\n(?=/\*)", code)
            end = following.start() if following else len(code)
            yield comment_text(comment) if comment else "", code[:end].replace("MPQ_API ", "")
            piece = code[end:].strip("\n")


def page(header, date, version):
    first = re.match(r"/\*.*?\*/", header, re.S).group(0)
    text = (f'.TH MPQ 3 {date} "mpq {version}"\n.SH NAME\nmpq \\- inference of mixed\\-precision networks\n'
            ".SH SYNOPSIS\n.B #include <mpq.h>\n.PP\n" + example("cc $(pkg-config --cflags --libs mpq) program.c") +
            ".SH DESCRIPTION\n" + conventions(first))
    constants = re.search(r'extern "C" {\n#endif\n(.*?)/\* ----', header, re.S).group(1)
    sections = re.split(r"/\* ---- (.*?) -+ \*/", header)
    for title, body in [("Version", constants), *zip(sections[1::2], sections[2::2])]:
        text += f".SH {title.upper()}\n"
        body = re.split(r"\n#ifdef __cplusplus|\n#endif", body)[0]
        parts = [part for comment, code in chunks(body)
                 for part in (filled(comment) if comment else "", example(code) if code else "") if part]
        text += ".PP\n".join(parts)
    return text + ".SH SEE ALSO\n.BR mpqrun (1),\n.BR mpqconvert (1)\n"


def main():
    with open(sys.argv[1], encoding="ascii") as file:
        sys.stdout.write(page(file.read(), sys.argv[2], sys.argv[3]))


if __name__ == "__main__":
    main()
