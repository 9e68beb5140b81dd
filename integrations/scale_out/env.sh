# Sourced by the tests of proxy, kserve, triton and ray: their arguments, and what they need, or a skipped check. `make scale-out`
# (MPQ_SCALE_OUT=1) installs packages and runs all of them; otherwise those run that are quick and whose packages are there.
#   run_tests.sh SOURCE_ROOT SUBJECT MPQRUN LIBRARY TINY TEXT [pytest arguments]     SUBJECT: the program or library under test
# Set before: name of the test, environment and requirements of its Python; takes_long for what is not quick.
root=$1
MPQ_SUBJECT=$(realpath "$2") MPQRUN=$(realpath "$3") MPQ_LIBRARY=$(realpath "$4") MPQ_TINY=$(realpath "$5") MPQ_TEXT=$(realpath "$6")
shift 6
skip() {
  echo "SKIPPED: $1"
  exit 77
}
if nm -D "$MPQ_LIBRARY" | grep -q -E '__(asan|tsan|ubsan)'; then
  skip "$name: a sanitizer build is not loaded by Python"
fi
if [ "${MPQ_SCALE_OUT:-0}" != 1 ] && [ -n "${takes_long:-}" ]; then
  skip "$name: takes a minute or two: make scale-out runs it"
fi
venv=${MPQ_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/mpq}/$environment-venv
if [ "${MPQ_SCALE_OUT:-0}" != 1 ] && ! cmp -s "$root/$requirements" "$venv/ready"; then
  skip "$name: its Python packages are installed by make scale-out"
fi
python=$("$root/scripts/python_env.sh" "$environment" "$root/$requirements") || { echo "$python"; exit 77; }
PYTHONPATH=$root/integrations/python:$root/integrations/server/tests:$root/integrations/scale_out PYTHONDONTWRITEBYTECODE=1
export MPQ_SUBJECT MPQRUN MPQ_LIBRARY MPQ_TINY MPQ_TEXT PYTHONPATH PYTHONDONTWRITEBYTECODE
cd "$root/integrations/$name/tests"
