#!/bin/sh
# Who may include whom; names each line that goes against the direction of knowledge.
#
#   converter -> text -> format <- runtime -> kernels        tests, bench, examples: anything
#   programs -> manual
#
#   tests/check_layers.sh SOURCE_ROOT
set -u
cd "$1" || exit 2
status=0
ours='manual|kernels|format|text|runtime|converter|tests|bench|examples|integrations'

# layer FOLDER SKIP ALLOWED: files of FOLDER, but not of SKIP, include of ours only what ALLOWED matches.
layer() {
  [ -d "$1" ] || { echo "check_layers: no folder $1"; status=1; return; }
  wrong=$(grep -rnE --include='*.h' --include='*.cc' --include='*.c' "^ *# *include *[\"<](\.\./)*($ours)/" "$1" |
    grep -vE "^($2)/" | grep -vE "# *include *[\"<]($3)")
  [ -z "$wrong" ] || { echo "$wrong" | sed "s|^|$1 may not know: |"; status=1; }
}

layer kernels        -              'kernels/'
layer format         -              'format/'
layer text           -              'text/|format/'
layer runtime        'runtime/cli'  'text/|runtime/[^/]*\.h|runtime/ops/|runtime/cuda/|format/|kernels/'
# The tool is a user of the C API; it shares error values and image readers, nothing of the runtime.
layer runtime/cli    -              'manual/|runtime/mpq\.h|runtime/cli/|converter/data/|format/status\.h'
layer converter/data -              'converter/data/|format/'
layer manual         -              'manual/'
layer converter      'converter/cli' 'manual/|converter/|text/|format/'
# Weights in the layouts of kernels come from the runtime, through the C API as for any other user.
layer converter/cli  -              'manual/|converter/|text/|format/|runtime/mpq\.h'
# Integrations are programs of others that happen to live here; image readers are shared.
layer integrations   -              'manual/|integrations/|converter/data/|runtime/mpq\.h'

# Arithmetic knows no files, threads, allocation or errors; and what is compiled for an instruction set
# must not leave its object: an inline function of the library compiled there may be the copy that the
# linker keeps for every machine.
wrong=$(grep -rnE --include='*.h' --include='*.cc' '^ *# *include *<[a-z_]+>' kernels |
  grep -vE '<(cmath|cstddef|cstdint|cstring|span)>')
[ -z "$wrong" ] || { echo "$wrong" | sed 's|^|kernels may not know: |'; status=1; }
wrong=$(grep -nE '^ *# *include *<(cmath|cstring)>' kernels/*/*_avx2.* kernels/*/*_avx512*.* kernels/*/*_amx.* 2>/dev/null)
[ -z "$wrong" ] || { echo "$wrong" | sed 's|^|not in code for an instruction set: |'; status=1; }
exit $status
