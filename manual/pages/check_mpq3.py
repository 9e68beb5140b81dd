#!/usr/bin/env python3
"""Is every function, type and constant of mpq.h on its page, and would one that is missing be seen?

  check_mpq3.py mpq.h mpq.3
"""
import re
import sys


def names_of(header):
    """What users may name; comments are no declarations."""
    code = re.sub(r"/\*.*?\*/", "", header, flags=re.S)
    code = code.partition("extern \"C\" {")[2].partition("#ifdef __cplusplus")[0]
    return set(re.findall(r"\b(?:mpq|MPQ)_\w+", code)) - {"MPQ_API"}


def missing(names, page):
    shown = set(re.findall(r"\b(?:mpq|MPQ)_\w+", "".join(re.findall(r"^\.EX\n(.*?)^\.EE", page, re.M | re.S))))
    return sorted(names - shown)


def main():
    with open(sys.argv[1], encoding="ascii") as file:
        names = names_of(file.read())
    with open(sys.argv[2], encoding="ascii") as file:
        page = file.read()
    wrong = missing(names, page)
    for name in wrong:
        print(f"{sys.argv[2]}: {name} is missing")
    if missing(names, page.replace("mpq_session_clone", "mpq_session_copy")) != ["mpq_session_clone"]:
        wrong.append("planted")
        print("the check does not see that mpq_session_clone is gone")
    print(f"{len(names)} names")
    return 1 if wrong or len(names) < 100 else 0


if __name__ == "__main__":
    sys.exit(main())
