"""The structs and signatures written by hand are those of mpq.h."""

import ctypes
import re
import shutil
import subprocess

import pytest

from mpq import _errors, _library

STRUCTS = {
    "mpq_model_options": _library.ModelOptions,
    "mpq_tensor_info": _library.TensorInfo,
    "mpq_token": _library.Token,
    "mpq_image_preprocess": _library.ImagePreprocess,
    "mpq_options": _library.Options,
    "mpq_memory_info": _library.MemoryInfo,
    "mpq_step_info": _library.StepInfo,
}
TYPES = {
    "mpq_status": _library.Status, "int": ctypes.c_int, "void": None, "size_t": ctypes.c_size_t,
    "uint32_t": ctypes.c_uint32, "uint64_t": ctypes.c_uint64, "const char*": ctypes.c_char_p,
    "char[65]": ctypes.c_char_p, "const void*": ctypes.c_void_p, "void*": ctypes.c_void_p,
    "const mpq_model*": ctypes.c_void_p, "mpq_model*": ctypes.c_void_p,
    "const mpq_session*": ctypes.c_void_p, "mpq_session*": ctypes.c_void_p,
}
POINTEES = {
    "mpq_model*": ctypes.c_void_p, "mpq_session*": ctypes.c_void_p, "void*": ctypes.c_void_p,
    "const void*": ctypes.c_void_p, "size_t": ctypes.c_size_t, "const int32_t": ctypes.c_int32,
    "const uint32_t": ctypes.c_uint32,
} | {const + name: struct for name, struct in STRUCTS.items() for const in ("", "const ")}


def ctypes_of(c_type):
    if c_type in TYPES:
        return TYPES[c_type]
    return ctypes.POINTER(POINTEES[c_type.removesuffix("*")])


def declarations(header):
    text = re.sub(r"/\*.*?\*/", "", header.read_text(), flags=re.S)
    for match in re.finditer(r"MPQ_API\s+([\w\s*]+?)(\w+)\(([^;]*)\);", text):
        returned, name, parameters = match.groups()
        types = []
        for parameter in parameters.split(","):
            parameter = " ".join(parameter.split())
            if parameter != "void":
                kind, array = re.fullmatch(r"(.*?)\s*\b\w+(\[\d+\])?", parameter).groups()
                types.append(kind + (array or ""))
        yield name, [ctypes_of(returned.strip())], types


def test_signatures_are_those_of_the_header(header):
    declared = {name: (returned, types) for name, returned, types in declarations(header)}
    assert len(declared) > 50
    for name, signature in _library._SIGNATURES.items():
        returned, types = declared[name]
        assert list(signature) == returned + [ctypes_of(t) for t in types], name


def test_structs_have_the_layout_that_a_c_compiler_gives_them(header, tmp_path):
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    lines = [f'#include "{header}"', "#include <stdio.h>", "int main(void) {"]
    ours = []
    for name, struct in STRUCTS.items():
        lines.append(f'printf("%zu\\n", sizeof({name}));')
        ours.append(ctypes.sizeof(struct))
        for field, _ in struct._fields_:
            member = f"((({name}*)0)->{field})"
            lines.append(f'printf("%zu\\n%zu\\n", offsetof({name}, {field}), sizeof {member});')
            ours += [getattr(struct, field).offset, getattr(struct, field).size]
    (tmp_path / "layout.c").write_text("\n".join(lines + ["return 0; }"]))
    subprocess.run([compiler, tmp_path / "layout.c", "-o", tmp_path / "layout"], check=True)
    printed = subprocess.run([tmp_path / "layout"], check=True, capture_output=True, text=True)
    assert [int(line) for line in printed.stdout.split()] == ours


def test_every_status_has_its_exception(header):
    body = re.search(r"enum mpq_status \{(.*?)\} mpq_status;", header.read_text(), re.S).group(1)
    numbers = {int(number) for number in re.findall(r"MPQ_\w+ = (\d+)", body)} - {0}
    assert numbers == set(_errors._BY_STATUS)
