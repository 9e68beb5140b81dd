#include "runtime/cli/options.h"

namespace mpq::cli {

namespace {

constexpr ModeMask kRun = bit(Mode::kRun), kBench = bit(Mode::kBench),
                   kProfile = bit(Mode::kProfile), kEval = bit(Mode::kEval),
                   kInfo = bit(Mode::kInfo), kVerify = bit(Mode::kVerify),
                   kCompare = bit(Mode::kCompare);
constexpr ModeMask kSession = kRun | kBench | kProfile | kEval | kVerify | kCompare | kInfo;
constexpr ModeMask kInputs = kRun | kBench | kProfile | kCompare;

constexpr Example kExamples[] = {
    {"mpqrun model.fb -i cat.jpg", "what is in the picture"},
    {"mpqrun model.fb --bench -t 1,2", "how fast it is"},
    {"mpqrun model.fb --eval --dataset imagenet:val/", "how right it is"},
};

constexpr Verb kVerbs[] = {
    {Mode::kRun, "run", "one forward pass (the default)", "mpqrun model.fb -i cat.jpg"},
    {Mode::kBench, "bench", "latency and throughput", "mpqrun model.fb --bench -t 1,2 -b 1,8"},
    {Mode::kProfile, "profile", "time, bits, kernel and share of peak, layer by layer",
     "mpqrun model.fb --profile --by op"},
    {Mode::kEval, "eval", "accuracy on labelled images or texts",
     "mpqrun model.fb --eval --dataset imagenet:val/"},
    {Mode::kInfo, "info", "what is in a model file", "mpqrun info model.fb --layers"},
    {Mode::kVerify, "verify",
     "is the file whole; do this machine's kernels give the reference's bits",
     "mpqrun verify model.fb --against reference"},
    {Mode::kCompare, "compare", "outputs of two models, two instruction sets, or a file of outputs",
     "mpqrun compare a.fb b.fb --dataset val.tar"},
    {Mode::kDoctor, "doctor", "what this machine offers, and what disturbs measurements",
     "mpqrun doctor"},
};

// clang-format off
constexpr Option kOptions[] = {
    // name, letter, value, default, modes, advanced, help
    {"input", 'i', "FILE", nullptr, kInputs, false, "image (JPEG, PNG), .npy, or a text, or 'text | text'; may be repeated"},
    {"top", 0, "N", "5", kRun, false, "classes to print"},
    {"labels", 0, "FILE", nullptr, kRun | kEval, true, "class names, one a line, instead of the model's"},
    {"save", 0, "FILE", nullptr, kRun, false, "write the outputs: .npy (one output) or .npz"},

    {"batch", 'b', "LIST", "1", kRun | kBench | kProfile | kEval, false, "images or texts per run; bench takes lists: 1,2,4 or 1-8*2 or 0-16+4"},
    {"threads", 't', "LIST", "0", kSession & ~kVerify, false, "0: all this process may use; bench takes lists"},
    {"device", 'd', "NAME", "cpu", kSession & ~kVerify, false, "cpu, or cuda, cuda:1 ...: an NVIDIA GPU, same results (exit 9 without one); compare takes two"},
    {"isa", 0, "NAME", "auto", kSession, false, "auto, scalar, avx2, avx512vnni, amx; bench and compare take lists", "auto|scalar|avx2|avx512vnni|amx"},
    {"tune", 0, "[FILE]", nullptr, kSession, false, "kernels by their time on this machine, kept in FILE (in the user's cache folder); same results"},
    {"streams", 's', "LIST", "1", kBench, false, "independent sessions at the same time, weights shared, -t threads each; or auto"},

    {"duration", 0, "SECONDS", "3", kBench, false, "measure each row for so long"},
    {"iterations", 'n', "N", "0", kBench | kProfile, false, "or so many runs"},
    {"warmup", 0, "SECONDS", "0.5", kBench | kProfile, false, "runs before measuring"},
    {"baseline", 0, "FILE", nullptr, kBench | kProfile, false, "JSON of an earlier bench or profile: print the change of the least times"},
    {"fail-above", 0, "PERCENT", nullptr, kBench | kProfile, false, "exit 7 if a least time is above the baseline's by more than this and than the noise"},
    {"samples", 0, nullptr, nullptr, kBench, true, "put every latency into the JSON"},
    {"distinct", 0, "N", "8", kBench | kProfile, true, "inputs in rotation"},

    {"sort", 0, "KEY", "layer", kProfile, false, "time or layer", "time|layer"},
    {"by", 0, "KEY", "layer", kProfile, false, "one row per layer, op, bits or kernel", "layer|op|bits|kernel"},
    {"trace", 0, "FILE", nullptr, kProfile, false, "write the first 20 runs as a timeline for Perfetto (Chrome's JSON)"},
    {"html", 0, "FILE", nullptr, kProfile, false, "write a page: layers beside the roofline of this machine"},
    {"counters", 0, nullptr, nullptr, kProfile, false, "cycles, instructions and cache misses of each layer, where the kernel allows it"},

    {"dataset", 0, "PATH", nullptr, kEval | kCompare | kProfile | kBench, false, "images: folder or .tar; texts: stsb:FILE, glue-tsv:, tsv:, squad:, jsonl:, txt:"},
    {"seq-len", 0, "LIST", "128", kBench | kProfile, false, "tokens of each random sequence; bench takes lists"},
    {"limit", 0, "N", "0", kEval | kCompare, false, "first N samples only; 0: all"},
    {"min-acc", 0, "PERCENT", nullptr, kEval, false, "exit 6 if top-1 (texts: the first measure) is lower"},
    {"jobs", 'j', "N", "0", kEval | kCompare, true, "threads that decode images; 0: all"},
    {"save-logits", 0, "FILE", nullptr, kEval, false, "write all outputs as .npy"},
    {"expect-csv", 0, "FILE", nullptr, kEval, false, "image,label,classes,accumulators per line; exit 6 at any difference"},
    {"per-image", 0, "FILE", nullptr, kEval, true, "write image,label,classes,values per line as .csv"},

    {"layers", 0, nullptr, nullptr, kInfo, false, "the layers with bits, shapes and sizes"},
    {"map", 0, nullptr, nullptr, kInfo, false, "the precision map with gains and costs"},
    {"kernels", 0, nullptr, nullptr, kInfo, false, "the kernels this machine would run"},
    {"show-labels", 0, nullptr, nullptr, kInfo, false, "the class names"},

    {"against", 0, "WHAT", nullptr, kVerify, false, "reference: compare with the portable scalar kernels", "reference"},
    {"rounds", 0, "N", "4", kVerify | kCompare, true, "random inputs to compare on"},

    {"ref", 0, "FILE", nullptr, kCompare, false, "model or .npy of outputs (or the second file named)"},
    {"per-layer", 0, nullptr, nullptr, kCompare, false, "where two models begin to differ, layer by layer"},
    {"min-cos", 0, "X", nullptr, kCompare, false, "exit 6 if the least cosine is lower"},
    {"max-linf", 0, "X", nullptr, kCompare, false, "exit 6 if any value differs by more"},
    {"min-agree", 0, "PERCENT", nullptr, kCompare, false, "exit 6 if fewer images have the same top-1"},

    {"format", 0, "NAME", "text", kAllModes, false, "text, json, jsonl, csv or md", "text|json|jsonl|csv|md"},
    {"json", 0, "[FILE]", nullptr, kAllModes, false, "the same as --format=json; with =FILE, JSON there and text here"},
    {"seed", 0, "N", "1", kSession, true, "of random inputs"},
    {"verify", 0, "[LEVEL]", "full", kSession, true, "full, or header: skip the digests of weights when loading", "full|header"},
    {"mmap", 0, nullptr, nullptr, kSession, true, "map the file (it must not change) instead of reading it"},
    {"memory-limit", 0, "MB", "2048", kSession, true, "refuse to plan more than this"},
    {"progress", 0, "WHEN", "auto", kAllModes, true, "auto, plain or none", "auto|plain|none"},
    {"color", 0, "WHEN", "auto", kAllModes, true, "auto, always or never (NO_COLOR is honoured)", "auto|always|never"},
    {"quiet", 'q', nullptr, nullptr, kAllModes, false, "results and errors only"},
    {"verbose", 'v', nullptr, nullptr, kAllModes, false, "say what is being done"},
    {"help", 'h', nullptr, nullptr, kAllModes, false, "this screen; --help-all for every option"},
    {"help-all", 0, nullptr, nullptr, kAllModes, true, "every option"},
    {"version", 0, nullptr, nullptr, kAllModes, false, "versions, compiler, instruction sets"},
};

constexpr Alias kAliases[] = {
    {"-niter", "--iterations"}, {"--niter", "--iterations"}, {"--num_runs", "--iterations"}, {"--repetitions", "--iterations"}, {"-r", "--iterations"},
    {"--min_secs", "--duration"}, {"--time", "--duration"}, {"--avgRuns", "--iterations"}, {"--warmUp", "--warmup"}, {"--warmup_runs", "--warmup"},
    {"-nthreads", "--threads"}, {"--num_threads", "--threads"}, {"--nthreads", "--threads"}, {"-threads", "--threads"},
    {"-x", "--threads"}, {"-y", "--threads"}, {"--intra_op_num_threads", "--threads"}, {"--batch_size", "--batch"}, {"-batch", "--batch"}, {"--batchsize", "--batch"}, {"-nstreams", "--streams"}, {"--nstreams", "--streams"}, {"--num_streams", "--streams"},
    {"-m", "the model's path, without a flag"}, {"--model", "the model's path, without a flag"}, {"--loadEngine", "the model's path, without a flag"},
    {"--graph", "the model's path, without a flag"}, {"--image", "--input"}, {"--images", "--input"}, {"-infer_precision", "bits are in the model: mpqconvert --map"},
    {"-report_type", "--format"}, {"-o", "--format, or --json=FILE"}, {"--output", "--format, or --json=FILE"}, {"--exportTimes", "--json=FILE --samples"}, {"--exportProfile", "profile --json=FILE"},
    {"--dumpProfile", "--profile"}, {"--enable_op_profiling", "--profile"}, {"-pc", "--profile"}, {"--use_xnnpack", "--isa"},
    {"--accuracy", "--eval"}, {"--benchmark", "--bench"}, {"--data", "--dataset"}, {"--data-dir", "--dataset"},
};
// clang-format on

}  // namespace

std::span<const Example> examples() { return kExamples; }
std::span<const Verb> verbs() { return kVerbs; }
std::span<const Option> options() { return kOptions; }
std::span<const Alias> aliases() { return kAliases; }

}  // namespace mpq::cli
