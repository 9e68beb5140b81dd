#!/usr/bin/env python3
"""Our decoding and resizing against Pillow, byte for byte.

usage: check_pillow.py IMAGE_TOOL [--images TAR [COUNT]] [--plant]
       check_pillow.py --golden > pillow_golden.h

Random images of many kinds and sizes, and real ones with --images. --plant compares with a wrong
filter and must find differences. --golden writes the table that test_data.cc checks without Pillow.
Exit 77 (skipped) when Pillow is missing.
"""
import io
import os
import random
import subprocess
import sys
import tarfile
import tempfile
import zlib

try:
    import PIL
    from PIL import Image
except ImportError:
    print("SKIPPED: check_pillow: python3-pil is not installed")
    sys.exit(77)

METHODS = {1: Image.BILINEAR, 2: Image.BICUBIC, 3: Image.BOX}

# The horizontal pass first, as in Pillow 9. Later versions (seen: 13) begin with the vertical one when
# that is cheaper, which moves some pixels by one; with those only resizes of one axis are compared.
TWO_AXES = int(PIL.__version__.split(".")[0]) < 10


class Tool:
    def __init__(self, path):
        self.process = subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, line):
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()
        head = self.process.stdout.readline().decode()
        if head.startswith("error"):
            raise RuntimeError(head.strip())
        width, height = map(int, head.split())
        return width, height, self.process.stdout.read(width * height * 3)


def noise(rng, mode, width, height):
    """Smooth waves plus noise: exercises rounding in the middle and clamping at both ends."""
    bands = len(Image.new(mode, (1, 1)).getbands())
    data = bytearray(rng.randbytes(width * height * bands))
    if rng.random() < 0.5:
        for i in range(len(data)):
            data[i] = (i // bands % width * 5 + data[i] // 16) & 255
    return Image.frombytes(mode, (width, height), bytes(data))


def encodings(rng, width, height):
    rgb, grey = noise(rng, "RGB", width, height), noise(rng, "L", width, height)
    for subsampling in (0, 1, 2):
        yield "jpg", rgb, {"quality": rng.randint(20, 100), "subsampling": subsampling, "progressive": rng.random() < 0.5}
    yield "jpg", grey, {"quality": 75}
    yield "jpg", noise(rng, "CMYK", width, height), {"quality": 90}
    yield "png", rgb, {}
    yield "png", grey, {}
    yield "png", noise(rng, "RGBA", width, height), {}
    yield "png", noise(rng, "LA", width, height), {}
    yield "png", rgb.quantize(17), {}
    yield "png", grey.convert("1"), {}


def pattern(width, height):
    """The image that test_data.cc makes by the same formula."""
    return Image.frombytes("RGB", (width, height), bytes(
        (x * 37 + y * 101 + c * 59 + x * y % 251 * 7) & 255
        for y in range(height) for x in range(width) for c in range(3)))


def golden():
    assert TWO_AXES, "the golden file is made with Pillow 9"
    print("// Computed by Pillow %s: python3 check_pillow.py --golden > pillow_golden.h" % PIL.__version__)
    print("// clang-format off\n#pragma once\n\n#include <cstdint>\n")
    print("struct GoldenResize { uint32_t width, height, new_width, new_height; int method; uint32_t crc; };")
    print("constexpr GoldenResize kGoldenResizes[] = {")
    for size, new in [((5, 3), (3, 5)), ((1, 1), (4, 4)), ((16, 16), (16, 7)), ((16, 16), (7, 16)), ((33, 20), (12, 30)),
                      ((227, 227), (256, 256)), ((320, 240), (341, 256)), ((500, 375), (299, 224)), ((640, 427), (31, 17))]:
        for method, pil in METHODS.items():
            crc = zlib.crc32(pattern(*size).resize(new, pil).tobytes())
            print("    {%d, %d, %d, %d, %d, 0x%08xU}," % (*size, *new, method, crc))
    print("};\n")
    print("struct GoldenFile { const char* name; uint32_t width, height, crc; const char* hex; };")
    print("constexpr GoldenFile kGoldenFiles[] = {")
    rgb = pattern(19, 13)
    for name, image, options in [
            ("rgb 4:2:0 jpeg", rgb, {"format": "JPEG", "quality": 60, "subsampling": 2}),
            ("rgb 4:4:4 progressive jpeg", rgb, {"format": "JPEG", "quality": 60, "subsampling": 0, "progressive": True}),
            ("grey jpeg", rgb.convert("L"), {"format": "JPEG", "quality": 60}),
            ("cmyk jpeg", rgb.convert("CMYK"), {"format": "JPEG", "quality": 40}),
            ("rgb png", rgb.resize((6, 5)), {"format": "PNG"}),
            ("rgba png", rgb.resize((6, 5)).convert("RGBA"), {"format": "PNG"}),
            ("grey png", rgb.resize((6, 5)).convert("L"), {"format": "PNG"}),
            ("1 bit png", rgb.convert("1"), {"format": "PNG"}),
            ("palette png", rgb.quantize(9), {"format": "PNG"})]:
        out = io.BytesIO()
        image.save(out, **options)
        back = Image.open(io.BytesIO(out.getvalue())).convert("RGB")
        text = out.getvalue().hex()
        print('    {"%s", %d, %d, 0x%08xU,' % (name, *back.size, zlib.crc32(back.tobytes())))
        print("\n".join('     "%s"' % text[i:i + 100] for i in range(0, len(text), 100)) + "},")
    print("};")


def main():
    if "--golden" in sys.argv:
        return golden()
    tool = Tool(sys.argv[1])
    planted = "--plant" in sys.argv
    rng = random.Random(1)
    checked, wrong = 0, []

    def compare(line, expected):
        nonlocal checked
        checked += 1
        width, height, pixels = tool.ask(line)
        if (width, height) != expected.size or pixels != expected.tobytes():
            wrong.append(line)

    with tempfile.TemporaryDirectory() as folder:
        def check_file(path, sizes):
            with Image.open(path) as opened:
                reference = opened.convert("RGB")
            compare(f"decode {path}", reference)
            for size in sizes:
                if not TWO_AXES and size[0] != reference.width and size[1] != reference.height:
                    continue
                method = rng.choice(list(METHODS))
                used = METHODS[method] if not planted else Image.NEAREST
                compare(f"resize {path} {size[0]} {size[1]} {method}", reference.resize(size, used))

        for i in range(40):
            width, height = rng.randint(1, 90), rng.randint(1, 90)
            for kind, image, options in encodings(rng, width, height):
                path = os.path.join(folder, f"i.{kind}")
                image.save(path, {"jpg": "JPEG", "png": "PNG"}[kind], **options)
                check_file(path, [(rng.randint(1, 200), rng.randint(1, 200)), (width, rng.randint(1, 99)), (rng.randint(1, 99), height)])

        if "--images" in sys.argv:
            at = sys.argv.index("--images")
            count = int(sys.argv[at + 2]) if len(sys.argv) > at + 2 else 10**9
            with tarfile.open(sys.argv[at + 1]) as archive:
                images = [m for m in archive if m.isfile() and m.name.lower().endswith(("jpg", "jpeg", "png"))]
                for member in images[:count]:
                    path = os.path.join(folder, "real")
                    with open(path, "wb") as out:
                        out.write(archive.extractfile(member).read())
                    check_file(path, [(256, 341), (224, 224)])

    print(f"check_pillow: Pillow {PIL.__version__}: "
          f"{checked} images compared, {len(wrong)} differ")
    for line in wrong[:5]:
        print("  " + line)
    if planted:
        sys.exit(0 if wrong else 1)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
