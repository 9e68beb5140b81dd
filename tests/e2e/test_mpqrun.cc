// mpqrun from the outside: what it prints, where, and how it exits.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <iostream>

#include "tests/converter/pillow_golden.h"
#include "tests/e2e/cli_support.h"

using namespace mpq::test;
using Json = nlohmann::ordered_json;

namespace {

std::string golden_file(const std::string& name) {
  for (const GoldenFile& file : kGoldenFiles) {
    if (name != file.name) continue;
    std::string bytes;
    for (const char* p = file.hex; *p != '\0'; p += 2)
      bytes += static_cast<char>(std::stoi(std::string(p, 2), nullptr, 16));
    return bytes;
  }
  return "";
}

// The data of an .npy file whose header is at most 65 KB.
std::string npy_data(const std::string& file) {
  const std::string bytes = read(file);
  REQUIRE(bytes.size() > 10);
  const size_t header =
      static_cast<uint8_t>(bytes[8]) | static_cast<size_t>(static_cast<uint8_t>(bytes[9])) << 8;
  CHECK((10 + header) % 64 == 0);
  return bytes.substr(10 + header);
}

std::string joined(const std::vector<std::vector<std::vector<std::byte>>>& samples, size_t output) {
  std::string bytes;
  for (const auto& sample : samples)
    for (const std::byte b : sample[output]) bytes += static_cast<char>(b);
  return bytes;
}

void has_keys(const Json& json, std::initializer_list<const char*> keys) {
  for (const char* key : keys) {
    CAPTURE(key);
    CHECK(json.contains(key));
  }
}

constexpr auto kHeadKeys = {"schema_version", "tool", "verb", "argv", "time", "host"};

// A labelled folder of three images for conv.fb: classes as the model says, except the last.
void make_dataset() {
  std::filesystem::create_directories(folder() / "set");
  write("set/a.png", golden_file("rgb png"));
  write("set/b.jpg", golden_file("rgb 4:2:0 jpeg"));
  write("set/c.jpg", golden_file("grey jpeg"));
  std::string labels;
  for (const char* name : {"a.png", "b.jpg", "c.jpg"}) {
    const Outcome run = mpqrun(std::string("conv.fb -i set/") + name + " --json");
    const int best = run.json()["results"][0]["top"][0]["class"];
    labels +=
        std::string(name) + " " + std::to_string(name[0] == 'c' ? (best + 1) % 5 : best) + "\n";
  }
  write("set/labels.txt", labels);
}

// The models and images, once, before the first case.
struct Prepared {
  Prepared() {
    static const bool done = [] {
      make_models();
      make_dataset();
      return true;
    }();
    static_cast<void>(done);
  }
};

size_t occurrences(const std::string& text, const std::string& part) {
  size_t count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

// The first tag that closes what is not open, or the last that stays open; "" when all is well.
std::string unbalanced_tag(const std::string& page) {
  std::vector<std::string> open;
  for (size_t at = page.find('<'); at != std::string::npos; at = page.find('<', at + 1)) {
    const size_t end = page.find('>', at);
    if (end == std::string::npos) return page.substr(at, 20);
    if (page[at + 1] == '!' || page[end - 1] == '/') continue;
    const bool closes = page[at + 1] == '/';
    const size_t begin = at + (closes ? 2 : 1);
    const std::string name = page.substr(begin, page.find_first_of(" >", begin) - begin);
    if (!closes) {
      open.push_back(name);
    } else if (open.empty() || open.back() != name) {
      return "/" + name;
    } else {
      open.pop_back();
    }
  }
  return open.empty() ? "" : open.back();
}

}  // namespace

TEST_CASE_FIXTURE(
    Prepared, "mpqrun: help fits one screen, begins with examples, and every verb has its own") {
  const Outcome help = mpqrun("--help");
  CHECK(help.code == 0);
  CHECK(help.err.empty());
  CHECK(std::count(help.out.begin(), help.out.end(), '\n') <= 40);
  CHECK(help.out.find("mpqrun model.fb -i cat.jpg") < help.out.find("usage:"));
  for (const char* verb :
       {"run", "bench", "profile", "eval", "info", "verify", "compare", "doctor"}) {
    const Outcome own = mpqrun(std::string(verb) + " --help");
    CHECK(own.code == 0);
    CHECK(contains(own.out, std::string("mpqrun ") + verb));
    CHECK(std::count(own.out.begin(), own.out.end(), '\n') <= 40);
  }
  CHECK(contains(mpqrun("--help-all").out, "--memory-limit"));
  CHECK(contains(mpqrun("help bench").out, "--fail-above"));
  CHECK(mpqrun("").code == 2);
  const Outcome version = mpqrun("--version");
  CHECK(version.code == 0);
  CHECK(contains(version.out, "mpqrun 0."));
  CHECK(contains(mpqrun("completion bash").out, "--fail-above"));
}

TEST_CASE_FIXTURE(
    Prepared, "mpqrun: usage errors say what is wrong and what was meant, on stderr, with code 2") {
  const struct {
    const char* words;
    const char* message;
  } kCases[] = {
      {"conv.fb --iteratons 3", "--iteratons: unknown option; did you mean --iterations?"},
      {"conv.fb -niter 3", "-niter: unknown option; did you mean --iterations?"},
      {"conv.fb --num_threads=2", "did you mean --threads?"},
      {"conv.fb --zzzzzzzzz", "--zzzzzzzzz: unknown option; see --help"},
      {"conv.fb --threads", "--threads: needs a value"},
      {"conv.fb -i conv.npy --top five", "--top: \"five\" is not a whole number"},
      {"conv.fb --bench -b 8-1", "--batch 8-1: the range does not end"},
      {"conv.fb --bench -b 1-8*1", "the range does not end"},
      {"conv.fb --bench --duration 1x", "--duration: \"1x\" is not a number"},
      {"conv.fb -i conv.npy -b 1,2", "run takes one value"},
      {"conv.fb --bench --eval", "one thing at a time"},
      {"conv.fb --min-acc 5", "--min-acc: not an option of run"},
      {"conv.fb", "no input; give -i FILE (the model reads image u8 1x6x6x3)"},
      {"conv.fb linear.fb -i conv.npy", "linear.fb: one model at a time"},
      {"info", "no model named"},
      {"conv.fb --bench --fail-above 5", "needs --baseline"},
      {"conv.fb --bench --format xml", "--format xml"},
      {"conv.fb --bench -s 0", "--streams 0: auto, or 1 to 1024"},
      {"conv.fb --bench -s many", "--streams many"},
      {"verify conv.fb --against moon", "--against moon"},
      {"compare conv.fb", "two files"},
      {"conv.fb -i linear.npy", "the model reads image u8 1x6x6x3"},
      {"linear.fb -i set.jpg", "does not read images"},
      {"conv.fb --help=yes", "takes no value"},
  };
  for (const auto& c : kCases) {
    const Outcome outcome = mpqrun(c.words);
    CAPTURE(c.words);
    CHECK(outcome.code == 2);
    CHECK(outcome.out.empty());
    CHECK(outcome.err.starts_with("mpqrun: "));
    CHECK(contains(outcome.err, c.message));
  }
}

TEST_CASE_FIXTURE(Prepared, "mpqrun: damaged and absent files have their own exit codes") {
  const std::string model = read("conv.fb");
  write("cut.fb", model.substr(0, model.size() / 2));
  write("text.fb", std::string(5000, 'x'));
  std::string flipped = model;
  const size_t label = flipped.rfind("crane");  // in the segment of labels
  REQUIRE(label != std::string::npos);
  flipped[label] = 'k';
  write("flipped.fb", flipped);
  write("cut.jpg", golden_file("rgb 4:2:0 jpeg").substr(0, 300));
  write("cut.npy", read("conv.npy").substr(0, 200));
  const struct {
    const char* words;
    int code;
    const char* message;
  } kCases[] = {
      {"info none.fb", 3, "mpqrun: none.fb: "},
      {"info .", 3, "mpqrun: .: "},
      {"info cut.fb", 4, "mpqrun: cut.fb: "},
      {"info text.fb", 4, "mpqrun: text.fb: "},
      {"info flipped.fb", 10, "mpqrun: flipped.fb: "},
      {"conv.fb -i none.jpg", 3, "none.jpg: No such file"},
      {"conv.fb -i cut.jpg", 4, "cut.jpg: JPEG: Premature end"},
      {"conv.fb -i conv.fb", 4, "conv.fb: neither JPEG nor PNG"},
      {"conv.fb -i cut.npy", 4, "cut.npy: "},
      {"conv.fb -i conv.npy --save none/x.npy", 3, "none/x.npy: No such file"},
      {"conv.fb --bench --baseline none.json", 3, "none.json"},
      {"conv.fb --bench --baseline conv.npy", 4, "conv.npy: not the JSON of mpqrun bench"},
      {"conv.fb -i conv.npy --memory-limit 0 --isa amx", 5, "amx"},
      {"eval conv.fb --dataset none", 3, "none: no such file"},
      {"eval conv.fb --dataset text.fb", 4, "text.fb: "},
  };
  for (const auto& c : kCases) {
    const Outcome outcome = mpqrun(c.words);
    CAPTURE(c.words);
    if (std::string(c.words).ends_with("amx") &&
        mpqrun("doctor").out.find("not in this CPU") == std::string::npos)
      continue;
    CHECK(outcome.code == c.code);
    CHECK((outcome.out.empty() ||
           outcome.out.starts_with("conv.npy[0]\n")));  // what came before the failure
    CHECK(contains(outcome.err, c.message));
  }
}

TEST_CASE_FIXTURE(
    Prepared,
    "mpqrun: saved outputs are those of the naive interpreter, for every batch and thread count") {
  for (const char* options :
       {"", " -b 2", " -b 3 -t 2", " --isa scalar", " --mmap --verify=header"}) {
    CAPTURE(options);
    const Outcome conv = mpqrun(std::string("conv.fb -i conv.npy --save out.npy") + options);
    REQUIRE(conv.code == 0);
    CHECK(npy_data("out.npy") == joined(expected_outputs("conv"), 0));
    CHECK(contains(read("out.npy"), "'<f4', 'fortran_order': False, 'shape': (3, 5, )"));
  }
  REQUIRE(mpqrun("linear.fb -i linear.npy --save out.npz").code == 0);
  const std::string zip = read("out.npz");  // stored: the data are there as they are
  CHECK(contains(zip, "y.npy"));
  CHECK(zip.find(joined(expected_outputs("linear"), 0)) != std::string::npos);
  CHECK(zip.find(joined(expected_outputs("linear"), 1)) != std::string::npos);
  CHECK(mpqrun("linear.fb -i linear.npy --save out.npy").code == 2);  // two outputs
  if (std::system("python3 -c 'import numpy' 2>/dev/null") == 0) {
    CHECK(std::system(("cd '" + folder().string() +
                       "' && python3 -c \"import numpy; z = numpy.load('out.npz'); "
                       "assert z['y'].shape == (3, 3) and z['sums'].dtype == numpy.int32\"")
                          .c_str()) == 0);
  } else {
    std::cout << "SKIPPED: mpqrun npz: python3 has no numpy\n";
  }
}

TEST_CASE_FIXTURE(
    Prepared, "mpqrun: an image gives its classes with labels and probabilities that sum to 1") {
  const Outcome run = mpqrun("conv.fb -i set/b.jpg -i set/a.png --json");
  REQUIRE(run.code == 0);
  const Json json = run.json();
  has_keys(json, kHeadKeys);
  has_keys(json["model"], {"name", "path", "sha256", "bytes", "parameters", "bits"});
  REQUIRE(json["results"].size() == 2);
  double sum = 0.0, previous = 2.0;
  for (const Json& row : json["results"][0]["top"]) {
    sum += row["probability"].get<double>();
    CHECK(row["probability"].get<double>() <= previous);
    previous = row["probability"].get<double>();
  }
  CHECK(sum == doctest::Approx(1.0));
  const Outcome text = mpqrun("conv.fb -i set/b.jpg --top 2 -q");
  CHECK(text.err.empty());
  CHECK(std::count(text.out.begin(), text.out.end(), '\n') == 3);
  CHECK(contains(text.out, json["results"][0]["top"][0]["label"]));
  write("names.txt", "zero\none\ntwo\nthree\nfour\n");
  CHECK(mpqrun("conv.fb -i set/b.jpg --labels names.txt --json")
            .json()["results"][0]["top"]
            .dump()
            .find("three") != std::string::npos);
  const Outcome rows = mpqrun("conv.fb -i set/b.jpg --format csv");
  CHECK(rows.out.starts_with("input,rank,class,score,label\n"));
}

TEST_CASE_FIXTURE(
    Prepared, "mpqrun bench: rows of a sweep, statistics in order, JSON and JSON lines, the gate") {
  const std::string quick = " --duration 0.02 --warmup 0 ";
  const Outcome bench = mpqrun("conv.fb --bench -b 1-4*2 -t 1,2" + quick + "--json");
  REQUIRE(bench.code == 0);
  const Json json = bench.json();
  has_keys(json, kHeadKeys);
  has_keys(json, {"model", "load_ns", "configuration", "results", "peak_rss_bytes", "warnings"});
  has_keys(json["host"],
           {"cpu", "isa", "cpus_usable", "affinity", "governor", "kernel", "load_1min"});
  REQUIRE(json["results"].size() == 6);
  CHECK(json["results"][5]["batch"] == 4);
  CHECK(json["results"][5]["threads"] == 2);
  for (const Json& row : json["results"]) {
    const Json& ns = row["compute_ns"];
    CHECK(ns["n"] >= 10);
    CHECK(ns["min"] <= ns["median"]);
    CHECK(ns["median"] <= ns["max"]);
    CHECK(row["with_copies_ns"]["min"] >= ns["min"]);
    CHECK(ns.contains("p99_9") == (ns["n"] >= 1000));
  }
  const Outcome lines =
      mpqrun("conv.fb --bench -b 1,2 --isa scalar,auto" + quick + "--format jsonl");
  CHECK(std::count(lines.out.begin(), lines.out.end(), '\n') == 4);
  CHECK(Json::parse(lines.out.substr(0, lines.out.find('\n')))["isa"] == "scalar");
  CHECK(mpqrun("conv.fb --bench -n 25" + quick + "--json --samples")
            .json()["results"][0]["compute_ns"]["sorted_samples"]
            .size() == 25);
  CHECK(contains(mpqrun("conv.fb --bench --format md" + quick).out, "| ---: |"));

  const Json streams = mpqrun("conv.fb --bench -s 1-3 -t 1" + quick + "--json").json()["results"];
  REQUIRE(streams.size() == 3);
  for (size_t i = 0; i < 3; ++i) {
    CHECK(streams[i]["streams"] == i + 1);
    CHECK(streams[i]["compute_ns"]["n"] >= 10 * (i + 1));
    CHECK(streams[i]["images_per_second"] > 0.0);
    // Weights count once.
    CHECK(streams[i]["weights_bytes"] == streams[0]["weights_bytes"]);
    const auto own = [](const Json& row) {
      return row["session_memory_bytes"].get<uint64_t>() - row["weights_bytes"].get<uint64_t>();
    };
    CHECK(own(streams[i]) == (i + 1) * own(streams[0]));
  }
  CHECK(mpqrun("conv.fb --bench -s 2 -n 25" + quick + "--json")
            .json()["results"][0]["compute_ns"]["n"] == 50);
  const Outcome found = mpqrun("conv.fb --bench --streams auto -t 1 -v" + quick);
  CHECK(found.code == 0);
  CHECK(contains(found.err, "--streams auto: 1 of 1 threads"));
  CHECK(contains(found.out, "MB, weights"));

  // The gate: a baseline of an hour a run passes, one of a nanosecond does not.
  Json old = mpqrun("conv.fb --bench" + quick + "--json").json();
  old["results"][0]["compute_ns"]["min"] = 3600e9;
  write("slow.json", old.dump());
  CHECK(mpqrun("conv.fb --bench --baseline slow.json --fail-above 5%" + quick).code == 0);
  old["results"][0]["compute_ns"] = {{"n", 50}, {"min", 1}, {"median", 1}, {"p10", 1}};
  write("fast.json", old.dump());
  CHECK(mpqrun("conv.fb --bench --baseline fast.json" + quick).code == 0);
  CHECK(mpqrun("conv.fb --bench --baseline fast.json --fail-above 5%" + quick).code == 7);
  CHECK(contains(mpqrun("conv.fb --bench -t 64" + quick).err, "warning: 64 threads on"));
}

TEST_CASE_FIXTURE(Prepared, "mpqrun --tune: the same outputs, times in a file, no second timing") {
  const std::string plain = mpqrun("conv.fb -i set/b.jpg --save plain.npy").out;
  const Outcome first = mpqrun("conv.fb -i set/b.jpg --tune=times.txt --save tuned.npy -v");
  REQUIRE(first.code == 0);
  CHECK(first.out == plain);
  CHECK(read("tuned.npy") == read("plain.npy"));
  CHECK(contains(first.err, "kernels by time: "));
  const std::string times = read("times.txt");
  CHECK(times.starts_with("mpq kernel times 1\n"));
  const Outcome second = mpqrun("conv.fb -i set/b.jpg --tune=times.txt -v");
  CHECK(contains(second.err, " 0 of them timed now"));
  CHECK(read("times.txt") == times);
  CHECK(mpqrun("verify conv.fb --against reference --tune=times.txt").code == 0);

  write("times.txt", "times of last year\n");
  const Outcome stale = mpqrun("conv.fb -i set/b.jpg --tune=times.txt");
  CHECK(stale.code == 0);
  CHECK(stale.out == plain);
  CHECK(contains(stale.err, "warning: times.txt: not kernel times of mpq"));
}

TEST_CASE_FIXTURE(Prepared, "mpqrun profile --trace: a span a run, and inside it one a step") {
  const Outcome profile = mpqrun("conv.fb --profile -n 4 --warmup 0 --trace trace.json --json");
  REQUIRE(profile.code == 0);
  const Json trace = Json::parse(read("trace.json"));
  size_t runs = 0, steps = 0;
  double begin = 0.0, end = 0.0, at = 0.0;
  for (const Json& event : trace["traceEvents"]) {
    if (event["ph"] != "X") continue;
    const double start = event["ts"], duration = event["dur"];
    if (event["cat"] == "run") {
      CHECK(start >= end);
      begin = at = start;
      end = start + duration;
      ++runs;
    } else {
      CHECK(start >= begin);
      CHECK(std::abs(start - at) < 1e-3);
      CHECK(start + duration <= end + 1e-3);
      has_keys(event["args"], {"kernel", "macs", "bytes", "weight_bits"});
      at = start + duration;
      ++steps;
    }
  }
  CHECK(runs == 4);
  CHECK(steps == 4 * profile.json()["layers"].size());
}

TEST_CASE_FIXTURE(Prepared,
                  "mpqrun profile: every layer once, shares of the whole, groups that add up") {
  const Outcome profile = mpqrun("conv.fb --profile -n 5 --warmup 0 --json");
  REQUIRE(profile.code == 0);
  const Json json = profile.json();
  has_keys(json, {"run_ns", "steps_ns", "peak_ops_per_second", "layers"});
  REQUIRE(json["layers"].size() >= 8);
  has_keys(json["layers"][0],
           {"name", "op", "bits", "kernel", "time_ns", "share", "macs", "bytes", "ops_per_second"});
  uint64_t macs = 0;
  for (const Json& layer : json["layers"]) macs += layer["macs"].get<uint64_t>();
  // By hand: conv1 8*3*9*36 + conv2 8*8*9 + conv3 8*4*9*9 + fc 5*8.
  CHECK(macs == 7776 + 576 + 2592 + 40);
  const Json by_op = mpqrun("conv.fb --profile -n 5 --warmup 0 --by op --json").json();
  for (const Json& group : by_op["layers"])
    if (group["name"] == "conv2d") CHECK(group["steps"] == 3);
  CHECK(contains(mpqrun("conv.fb --profile -n 3 --warmup 0 --sort time").out, "share %"));
  CHECK(mpqrun("conv.fb --profile --sort size").code == 2);
  CHECK(mpqrun("conv.fb --profile --trace absent/trace.json -n 3 --warmup 0").code == 3);
}

TEST_CASE_FIXTURE(Prepared, "mpqrun profile: a page with every layer, complete in itself") {
  const Json json = mpqrun("conv.fb --profile -n 5 --warmup 0 --html page.html --json").json();
  const std::string page = read("page.html");
  size_t multiply = 0;
  for (const Json& layer : json["layers"]) {
    CHECK(contains(page, "<td class=\"l\">" + layer["name"].get<std::string>() + "</td>"));
    CHECK(layer["floor_ns"].get<int64_t>() >= 0);
    multiply += layer["macs"] != 0 ? 1 : 0;
  }
  CHECK(occurrences(page, "<circle ") == multiply);
  for (const char* outside : {"http:", "https:", "src=", "href=", "<script", "url("})
    CHECK(page.find(outside) == std::string::npos);
  CHECK(unbalanced_tag(page).empty());
  std::string planted = page;
  planted.erase(planted.find("</tr>"), 5);
  CHECK(!unbalanced_tag(planted).empty());
  CHECK(mpqrun("conv.fb --profile --html absent/page.html -n 3 --warmup 0").code == 3);
}

TEST_CASE_FIXTURE(Prepared, "mpqrun profile: a gate against an earlier profile, layer by layer") {
  const std::string quick = " -n 20 --warmup 0 ";
  Json old = mpqrun("conv.fb --profile" + quick + "--json").json();
  const auto gate = [&] {
    write("old.json", old.dump());
    return mpqrun("conv.fb --profile --baseline old.json --fail-above 10" + quick);
  };
  const auto set_all = [&](double ns) {
    old["run_ns"] = {{"n", 20}, {"min", ns}, {"median", ns}, {"p10", ns}};
    for (Json& layer : old["layers"]) layer["least_ns"] = ns;
  };
  set_all(3600e9);
  CHECK(gate().code == 0);
  Json* conv = nullptr;
  for (Json& layer : old["layers"])
    if (layer["name"] == "conv1") conv = &layer;
  REQUIRE(conv != nullptr);
  (*conv)["least_ns"] = 1;
  (*conv)["noise"] = 0.02;
  const Outcome slower = gate();
  CHECK(slower.code == 7);
  CHECK(contains(slower.err, "conv1: +"));
  (*conv)["noise"] = 1e12;  // nothing can be told from it
  CHECK(gate().code == 0);
  CHECK(mpqrun("conv.fb --profile --fail-above 5").code == 2);
  CHECK(mpqrun("conv.fb --profile --baseline none.json").code == 3);
  CHECK(mpqrun("conv.fb --profile --baseline conv.npy").code == 4);
}

TEST_CASE_FIXTURE(Prepared, "mpqrun profile: counters of every layer, or why there are none") {
  const Outcome counted = mpqrun("conv.fb --profile -n 3 --warmup 0 --counters --json");
  REQUIRE(counted.code == 0);
  const Json json = counted.json();
  if (json["counters"]["events"].empty()) {
    CHECK(contains(counted.err, "not counted: cycles: "));
    CHECK(contains(json["counters"]["not_counted"].get<std::string>(), "instructions: "));
    for (const Json& layer : json["layers"]) CHECK(!layer.contains("counters"));
    MESSAGE("SKIPPED: hardware counters: " << json["counters"]["not_counted"]);
    return;
  }
  for (const Json& layer : json["layers"])
    CHECK(layer["counters"].size() == json["counters"]["events"].size());
}

TEST_CASE_FIXTURE(Prepared, "mpqrun eval: counts, gates, known answers, saved outputs") {
  const Outcome eval = mpqrun("conv.fb --eval --dataset imagenet:set --json");
  REQUIRE(eval.code == 0);
  const Json json = eval.json();
  CHECK(json["images"] == 3);
  CHECK(json["top1_correct"] == 2);  // labels are the model's own, the last one moved
  CHECK(json["top5_correct"] == 3);  // five classes
  CHECK(json["top1"].get<double>() == doctest::Approx(2.0 / 3.0));
  CHECK(mpqrun("conv.fb --eval --dataset set --limit 2 -b 2 -j 3 --json").json()["top1_correct"] ==
        2);
  CHECK(mpqrun("conv.fb --eval --dataset set --min-acc 66").code == 0);
  CHECK(mpqrun("conv.fb --eval --dataset set --min-acc 67%").code == 6);
  CHECK(mpqrun("conv.fb --eval").code == 2);

  REQUIRE(
      mpqrun("conv.fb --eval --dataset set --per-image own.csv --save-logits logits.npy").code ==
      0);
  REQUIRE(mpqrun("conv.fb -i set/a.png -i set/b.jpg -i set/c.jpg --save single.npy").code == 0);
  CHECK(npy_data("logits.npy") == npy_data("single.npy"));
  std::string answers = "image,label,class1..5,acc1..5\n";
  const Json singles = mpqrun("conv.fb -i set/a.png -i set/b.jpg -i set/c.jpg --json").json();
  for (const Json& result : singles["results"]) {
    answers += result["input"].get<std::string>().substr(4) + ",0,";
    for (int i = 0; i < 5; ++i)
      answers += (i == 0 ? "" : " ") + std::to_string(result["top"][i]["class"].get<int>());
    answers += ",1 2 3 4 5\n";  // logits have no accumulators to compare
  }
  write("answers.csv", answers);
  CHECK(mpqrun("conv.fb --eval --dataset set --expect-csv answers.csv").code == 0);
  std::string wrong = answers;  // planted: two classes of the first image change places
  const size_t at = wrong.find(",0,") + 3;
  std::swap(wrong[at], wrong[at + 2]);
  write("wrong.csv", wrong);
  const Outcome differs = mpqrun("conv.fb --eval --dataset set --expect-csv wrong.csv");
  CHECK(differs.code == 6);
  CHECK(contains(differs.out, "2 of 3 lists of best classes equal"));
  CHECK(contains(differs.out, "first difference: a.png"));
  write("short.csv", answers.substr(0, answers.find('\n', 40) + 1));
  CHECK(mpqrun("conv.fb --eval --dataset set --expect-csv short.csv").code ==
        6);  // images without answers
  write("bad.csv", "a\nb,c\n");
  CHECK(mpqrun("conv.fb --eval --dataset set --expect-csv bad.csv").code == 4);
}

TEST_CASE_FIXTURE(Prepared, "mpqrun: texts given to a model of images are refused") {
  const Outcome text = mpqrun("conv.fb -i 'the cat | a dog'");
  CHECK(text.code == 3);
  CHECK(contains(text.err, "the cat | a dog: No such file or directory; conv.fb takes images"));
  write("pairs.csv", "a\tb\t2026\t1\t3.0\tone text\ttwo texts\n");
  const Outcome set = mpqrun("conv.fb --eval --dataset stsb:pairs.csv");
  CHECK(set.code == 2);
  CHECK(contains(set.err, "stsb:pairs.csv: is a set of texts; conv.fb takes images"));
  const Outcome bench = mpqrun("conv.fb --bench --seq-len 8 --duration 0.01");
  CHECK(bench.code == 2);
  CHECK(contains(bench.err, "conv.fb: takes no sequences"));
  CHECK(mpqrun("conv.fb -i pairs.csv").code == 4);
}

TEST_CASE_FIXTURE(Prepared, "mpqrun info: the model in words and in JSON") {
  const Outcome text = mpqrun("info conv.fb");
  CHECK(text.code == 0);
  for (const char* part : {"tiny_conv_net", "image u8 1x6x6x3", "logits f32 1x5", "w8a8", "w2a4",
                           "sha256", "cat", "made by hand"})
    CHECK(contains(text.out, part));
  const Json json = mpqrun("info conv.fb --kernels --show-labels --json").json();
  has_keys(json, kHeadKeys);
  has_keys(json, {"inputs", "outputs", "images", "layers", "map", "metadata", "kernels", "labels"});
  CHECK(json["model"]["parameters"] == 8 * 3 * 9 + 8 * 8 + 8 * 4 * 9 + 5 * 8);
  CHECK(json["map"]["layers"].size() == 4);
  CHECK(json["labels"].size() == 5);
  CHECK(contains(mpqrun("info conv.fb --layers").out, "conv3"));
  CHECK(contains(mpqrun("info conv.fb --map --format csv").out, "conv2,4,4,1,by solver,0.5,9,4"));
  const std::string sum = json["model"]["sha256"];
  CHECK(std::system(("cd '" + folder().string() + "' && echo '" + sum +
                     "  conv.fb' | sha256sum --check --status")
                        .c_str()) == 0);
}

TEST_CASE_FIXTURE(Prepared, "mpqrun verify: this machine's kernels equal the reference") {
  CHECK(contains(mpqrun("verify conv.fb").out, "whole"));
  for (const char* model : {"conv.fb", "linear.fb"}) {
    const Outcome verify =
        mpqrun(std::string("verify ") + model + " --against reference --rounds 5 --json");
    CHECK(verify.code == 0);
    const Json json = verify.json();
    REQUIRE(json["reference"].size() >= 2);
    for (const Json& row : json["reference"]) CHECK(row["equal"] == true);
  }
}

TEST_CASE_FIXTURE(Prepared, "mpqrun compare: equal sides, a planted difference, gates") {
  const Json same = mpqrun("compare conv.fb --isa scalar,auto --dataset set --json").json();
  CHECK(same["samples"] == 3);
  CHECK(same["different"] == 0);
  CHECK(same["cos_min"] == 1.0);
  CHECK(same["top1_agreement"] == 1.0);
  REQUIRE(mpqrun("conv.fb -i conv.npy --save ref.npy").code == 0);
  CHECK(
      mpqrun("compare conv.fb ref.npy -i conv.npy --max-linf 0 --min-cos 1 --min-agree 100").code ==
      0);
  CHECK(mpqrun("conv.fb --compare ref.npy -i conv.npy --json").json()["values"] == 15);
  // Planted: the second value of the second sample moves by 3, no more and no less.
  std::string bytes = read("ref.npy");
  const size_t at = bytes.size() - 15 * 4 + 6 * 4;
  float value = 0.0F;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  const float moved = value + 3.0F;
  std::memcpy(bytes.data() + at, &moved, sizeof moved);
  write("moved.npy", bytes);
  const Json json = mpqrun("compare conv.fb moved.npy -i conv.npy --json").json();
  CHECK(json["different"] == 1);
  CHECK(json["linf"].get<double>() == doctest::Approx(3.0));
  CHECK(json["l1_mean"].get<double>() == doctest::Approx(3.0 / 15));
  CHECK(json["l2_rms"].get<double>() == doctest::Approx(std::sqrt(9.0 / 15)));
  CHECK(mpqrun("compare conv.fb moved.npy -i conv.npy --per-layer").code == 2);
  CHECK(mpqrun("compare conv.fb moved.npy -i conv.npy --max-linf 2.9").code == 6);
  CHECK(mpqrun("compare conv.fb moved.npy -i conv.npy --max-linf 3.1").code == 0);
}

TEST_CASE_FIXTURE(Prepared, "mpqrun compare --per-layer: names the layer where two models part") {
  const Json json = mpqrun("compare conv.fb conv_changed.fb -i conv.npy --per-layer --json").json();
  bool parted = false;
  for (const Json& layer : json["layers"]) {
    CAPTURE(layer["name"].get<std::string>());
    parted = parted || layer["name"] == "conv2";  // its bias is what was changed
    if (!parted) CHECK(layer["different"] == 0);
    if (layer["name"] == "conv2") CHECK(layer["different"] > 0);
  }
  CHECK(parted);
}

TEST_CASE_FIXTURE(Prepared, "mpqrun doctor: the machine in words and in JSON") {
  const Outcome doctor = mpqrun("doctor");
  CHECK(doctor.code == 0);
  for (const char* part : {"CPU", "instruction sets", "scalar", "frequency governor", "AMX"})
    CHECK(contains(doctor.out, part));
  has_keys(mpqrun("doctor --json").json(), {"host", "warnings", "peak_ops_per_second_1_core"});
}

TEST_CASE_FIXTURE(
    Prepared, "mpqrun: results alone on stdout, colour only when asked, environment below flags") {
  CHECK(mpqrun("conv.fb -i set/a.png").out.find('\033') == std::string::npos);
  CHECK(contains(mpqrun("conv.fb -i set/a.png --color always").out, "\033["));
  CHECK(contains(mpqrun("conv.fb -i set/a.png -v").err, "loaded in"));
  CHECK(mpqrun("conv.fb --bench --duration 0.01 --warmup 0 --json", "MPQ_ISA=scalar MPQ_BATCH=2")
            .json()["results"][0]["isa"] == "scalar");
  CHECK(mpqrun("conv.fb --bench --duration 0.01 --warmup 0 --json -b 3", "MPQ_BATCH=2")
            .json()["results"][0]["batch"] == 3);
  const Outcome both = mpqrun("info conv.fb --json=facts.json");
  CHECK(contains(both.out, "tiny_conv_net"));
  CHECK(Json::parse(read("facts.json"))["model"]["name"] == "tiny_conv_net");
  CHECK(mpqrun("info conv.fb", "", "/dev/full").code == 3);
  CHECK(mpqrun("info conv.fb --json=/dev/full").code == 3);
}

TEST_CASE_FIXTURE(
    Prepared,
    "mpqrun: SIGINT finishes the item, prints what is known and exits with 130, SIGTERM with 143") {
  for (const auto& [signal, code] : {std::pair{SIGINT, 130}, {SIGTERM, 143}}) {
    const Outcome outcome =
        mpqrun_signalled("conv.fb --bench --duration 60 --warmup 0 --json", signal, 500);
    CHECK(outcome.code == code);
    const Json json = outcome.json();
    CHECK(json["results"].size() == 1);
    CHECK(json["results"][0]["compute_ns"]["n"] > 0);
  }
}

int main(int argc, char** argv) {
  if (std::getenv("MPQRUN") == nullptr) {
    std::cerr << "set MPQRUN to the program under test\n";
    return 2;
  }
  doctest::Context context(argc, argv);
  return context.run();
}
