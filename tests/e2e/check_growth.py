#!/usr/bin/env python3
"""Function-preserving growth: blocks whose last scale is 0 leave every logit as it was, bit for bit.

   check_growth.py PQF_TO_ONNX ONNX_EVAL [--deep] [--plant]

ResNet-18 becomes ResNet-34 (3, 4, 6, 3 blocks); --deep: ResNet-50 becomes ResNet-101. On real images.
--plant gives the new blocks a scale of 0.1 and must find differences.
"""
import array
import io
import os
import subprocess
import sys
import tarfile
import tempfile

try:
    from PIL import Image
except ImportError:
    print("SKIPPED: check_growth: python3-pil is not installed")
    sys.exit(77)

COUNT = 3
pqf_to_onnx, onnx_eval = sys.argv[1:3]
root = os.path.dirname(os.path.abspath(__file__))
shared = os.environ.get("MPQ_DATA") or os.path.join(root, "../../../shared/data")
weights, images = (os.path.join(shared, f) for f in ("resnet_pqf.tar", "imagenet_val_dev800.tar"))
for path in (weights, images):
    if not os.path.exists(path):
        print(f"SKIPPED: check_growth: {path} is not there")
        sys.exit(77)

if "--deep" in sys.argv:
    member, growth = "pqf/resnet50_large.pth", ["--grow=3:23"]
else:
    member, growth = "pqf/resnet18_large.pth", ["--grow=1:3", "--grow=2:4", "--grow=3:6", "--grow=4:3"]
scale = "0.1" if "--plant" in sys.argv else "0"


def pixels(data):
    """NCHW, normalised."""
    image = Image.open(io.BytesIO(data)).convert("RGB").resize((224, 224), Image.BILINEAR)
    planes = array.array("f")
    for channel, mean, deviation in zip(image.split(), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)):
        planes.extend((p / 255 - mean) / deviation for p in channel.getdata())
    return planes


with tempfile.TemporaryDirectory() as folder:
    file = lambda name: os.path.join(folder, name)
    with tarfile.open(weights) as tar, open(file("net.pth"), "wb") as out:
        out.write(tar.extractfile(member).read())
    with tarfile.open(images) as tar, open(file("x"), "wb") as out:
        names = sorted(n for n in tar.getnames() if n.lower().endswith((".jpeg", ".jpg")))
        for name in names[:COUNT]:
            pixels(tar.extractfile(name).read()).tofile(out)
    logits = []
    for name, options in (("plain", []), ("grown", growth + [f"--last-scale={scale}"])):
        subprocess.run([pqf_to_onnx, file("net.pth"), file(name), *options], check=True)
        subprocess.run([onnx_eval, file(name), file("x"), file("y"), str(COUNT)], check=True)
        y = array.array("f")
        with open(file("y"), "rb") as f:
            y.frombytes(f.read())
        logits.append(y)
        print(f"{name}: {os.path.getsize(file(name)) / 2**20:.1f} MiB, {len(y)} logits, largest {max(y):.4f}")

plain, grown = (y.tobytes() for y in logits)
differ = sum(plain[i:i + 4] != grown[i:i + 4] for i in range(0, len(plain), 4))
print(f"{member} {' '.join(growth)}, last scale {scale}: {differ} of {len(logits[0])} logits differ")
sys.exit(0 if len(plain) == len(grown) and len(plain) > 0 and differ == 0 else 1)
