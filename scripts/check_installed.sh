#!/bin/sh
# What check_packages.sh runs inside the bare system: installs the packages and the wheel beside it, and
# runs models with them. Ends with the first thing that is not as it should be.
set -eu
cd "$(dirname "$0")"
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
apt_install() {
  apt-get install -y -qq --no-install-recommends "$@" >log 2>&1 || { tail -20 log; exit 1; }
}
say() { printf '%-18s %s\n' "$1" "$2"; }
# The class that the naive interpreter finds is the largest of the expected floats.
want=$(od -An -v -t f4 -w4 tiny.expected | awk 'NR == 1 || $1 > best { best = $1; at = NR - 1 } END { print at }')
must_be() {
  [ "$2" = "$3" ] || { echo "$1: $2 instead of $3"; exit 1; }
}

say system "$(. /etc/os-release; echo "$PRETTY_NAME"), $(dpkg-query -W | wc -l) packages"
apt-get update -qq
before=$(dpkg-query -W -f '${Package}\n' | wc -l)

apt_install ./mpq-tools_*.deb ./libmpq0_*.deb
say mpq-tools "$(mpqrun --version | head -1), $(($(dpkg-query -W | wc -l) - before)) packages came along"
mpqrun verify tiny.mpq --against reference -q >log || { cat log; exit 1; }
mpqrun tiny.mpq --bench --duration 0.2 --warmup 0 -q --format csv | tail -1 >log
say mpqrun "verified against the reference; runs: $(cut -d, -f4 log)"
apt_install ./libmpq-dev_*.deb gcc g++ libc6-dev pkg-config
gzip -cdf /usr/share/doc/libmpq-dev/examples/minimal.c* >minimal.c
gzip -cdf /usr/share/doc/libmpq-dev/examples/classify.cc* >classify.cc
# shellcheck disable=SC2046  # lists of words
cc minimal.c $(pkg-config --cflags --libs mpq) -o minimal
# shellcheck disable=SC2046
c++ -std=c++20 classify.cc $(pkg-config --cflags --libs mpq) -o classify
for program in minimal classify; do
  must_be $program "$(./$program tiny.mpq tiny.input | cut -d' ' -f1)" "$want"
done
say libmpq-dev "C and C++ programs find class $want, as the naive interpreter does"

cat >run.py <<'PYTHON'
import sys
import numpy as np
import mpq
with mpq.Model("tiny.mpq") as model, model.session() as session:
    pixels = np.fromfile("tiny.input", np.uint8).reshape(session.input(0).shape)
    out = session.run(pixels)[0]
    assert out.tobytes() == open("tiny.expected", "rb").read()
    print(int(out.argmax()), mpq._library._path())
PYTHON
apt_install ./python3-mpq_*.deb
found=$(python3 run.py)
must_be python3-mpq "${found%% *}" "$want"
say python3-mpq "the expected bytes, $found"

apt_install ./mpq-server_*.deb
mkdir -p models/tiny/1
cp tiny.mpq models/tiny/1/model.fb
mpqserve models --http-port 18000 >log 2>&1 &
server=$!
cat >ask.py <<'PYTHON'
import json
import time
import urllib.request
url, body = "http://127.0.0.1:18000/v2/models/tiny", open("tiny.input", "rb").read()
for _ in range(100):
    try:
        meta = json.load(urllib.request.urlopen(url))
        break
    except OSError:
        time.sleep(0.1)
entry = meta["inputs"][0]
head = json.dumps({"inputs": [{"name": entry["name"], "datatype": entry["datatype"], "shape": [1] + entry["shape"][1:],
                               "parameters": {"binary_data_size": len(body)}}],
                   "parameters": {"binary_data_output": True}}).encode()
request = urllib.request.Request(url + "/infer", head + body, {"Inference-Header-Content-Length": str(len(head))})
with urllib.request.urlopen(request) as answer:
    body, size = answer.read(), int(answer.headers["Inference-Header-Content-Length"])
first = json.loads(body[:size])["outputs"][0]["parameters"]["binary_data_size"]
assert body[size:size + first] == open("tiny.expected", "rb").read()
PYTHON
python3 ask.py || { kill $server; cat log; exit 1; }
kill $server
wait $server
say mpq-server "the expected bytes over HTTP; drained and ended with 0"

apt_install ./mpq-triton_*.deb
ldd /usr/lib/*/mpq/triton/mpq/libtriton_mpq.so >log
! grep 'not found' log || exit 1
say mpq-triton "all the libraries that it needs are there (no tritonserver in Debian to run it)"

# The whole guide, as a newcomer would type it, installation included.
if [ -d all-MiniLM-L6-v2 ]; then
  apt_install curl
  python3 check_guide.py guide.md all-MiniLM-L6-v2 --install
  say guide "every command of docs/guide.md"
else
  echo "SKIPPED: guide: no all-MiniLM-L6-v2 in the cache (scripts/fetch_text_models.sh)"
fi

# The wheel has a library of its own: the packages go first.
apt-get purge -y -qq 'libmpq*' >log 2>&1
apt_install python3-venv
python3 -m venv --system-site-packages venv
venv/bin/pip install -q --no-index --no-deps ./mpq-*.whl
found=$(venv/bin/python run.py)
must_be wheel "${found%% *}" "$want"
case $found in *mpq.mesonpy.libs*) ;; *) echo "wheel: not its own library: $found"; exit 1 ;; esac
say wheel "the expected bytes, $found"
