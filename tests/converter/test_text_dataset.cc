// Sets of texts: each format, the archives they come in, and what is refused by place and line.

#include <doctest/doctest.h>

#include <cmath>
#include <cstdio>

#include "converter/data/gzip.h"
#include "converter/data/text_dataset.h"
#include "converter/data/text_file.h"
#include "tests/support/temp_folder.h"

namespace mpq::data {
namespace {

using tests::TempFolder;
namespace fs = std::filesystem;

template <typename T>
std::string message_of(const Result<T>& result) {
  return result.ok() ? "" : result.error().message;
}

bool mentions(const std::string& text, const std::string& part) {
  if (text.find(part) != std::string::npos) return true;
  MESSAGE("\"" << text.substr(0, 500) << "\" lacks \"" << part << "\"");
  return false;
}

TextDataset set_of(const std::string& format, const std::string& text) {
  const TempFolder folder;
  auto set = open_text_dataset(format + ":" + folder.write("set", text));
  REQUIRE_MESSAGE(set.ok(), message_of(set));
  return *std::move(set);
}

std::vector<int32_t> labels_of(const TextDataset& set) {
  std::vector<int32_t> labels;
  for (const TextSample& sample : set.samples) labels.push_back(sample.label);
  return labels;
}

void run(const std::string& command) { REQUIRE(std::system(command.c_str()) == 0); }

const std::string kStsb =
    "main-captions\tMSRvid\t2012test\t0001\t5.000\tA plane is \"taking off.\tAn air plane.\n"
    "main-news\theadlines\t2013\t0002\t.5\tOne\tTwo\tsource\tanother\r\n";

}  // namespace

TEST_CASE("text set: STS benchmark, with quotes as they are and sources after the sentences") {
  const TextDataset set = set_of("stsb", kStsb);
  REQUIRE(set.samples.size() == 2);
  CHECK(set.samples[0].text == "A plane is \"taking off.");
  CHECK(set.samples[0].pair == "An air plane.");
  CHECK(set.samples[0].score == 5.0);
  CHECK(set.samples[1].score == 0.5);
  CHECK(set.samples[1].pair == "Two");
  CHECK(set.class_names.empty());
}

TEST_CASE("text set: GLUE's tables by their column names") {
  const TextDataset sst2 = set_of("glue-tsv", "\xEF\xBB\xBFsentence\tlabel\ngood \t1\n\nbad\t0");
  REQUIRE(sst2.samples.size() == 2);
  CHECK(sst2.samples[0].text == "good ");
  CHECK(labels_of(sst2) == std::vector<int32_t>{1, 0});
  const TextDataset mrpc =
      set_of("glue-tsv", "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t70\t71\tone\ttwo\n");
  CHECK(mrpc.samples[0].text == "one");
  CHECK(mrpc.samples[0].pair == "two");
  CHECK(mrpc.samples[0].label == 1);
  const TextDataset qnli = set_of("glue-tsv",
                                  "index\tquestion\tsentence\tlabel\n0\tq\ts\tnot_entailment\n"
                                  "1\tq2\ts2\tentailment\n2\tq3\ts3\t-\n");
  CHECK(qnli.samples[0].text == "q");
  CHECK(qnli.samples[0].pair == "s");
  CHECK(qnli.class_names == std::vector<std::string>{"entailment", "not_entailment"});
  CHECK(labels_of(qnli) == std::vector<int32_t>{1, 0, -1});
  const TextDataset stsb = set_of("glue-tsv", "sentence1\tsentence2\tscore\na\tb\t2.75\n");
  CHECK(stsb.samples[0].score == 2.75);
  CHECK(stsb.samples[0].label == -1);
  const TextDataset hidden = set_of("glue-tsv", "index\tsentence\n0\tx\n");
  CHECK(hidden.samples[0].label == -1);
  CHECK(std::isnan(hidden.samples[0].score));
}

TEST_CASE("text set: text and class, plain lines, JSON lines") {
  const TextDataset news = set_of("tsv", "a b\tSports\nc\tWorld\nd\tBusiness\ne\tSports\n");
  CHECK(news.class_names == std::vector<std::string>{"Business", "Sports", "World"});
  CHECK(labels_of(news) == std::vector<int32_t>{1, 2, 0, 1});
  const TextDataset lines = set_of("txt", "one\n \ntwo\tthree\r\n");
  REQUIRE(lines.samples.size() == 2);
  CHECK(lines.samples[1].text == "two\tthree");
  const TextDataset json = set_of("jsonl", R"({"text": "\u00e9", "label": 3})"
                                           "\n"
                                           R"({"sentence2": "b", "sentence1": "a", "score": 4})"
                                           "\n"
                                           R"({"hypothesis": "h", "premise": "p", "label": null})");
  REQUIRE(json.samples.size() == 3);
  CHECK(json.samples[0].text == "\xC3\xA9");
  CHECK(labels_of(json) == std::vector<int32_t>{3, -1, -1});
  CHECK(json.samples[1].text == "a");
  CHECK(json.samples[1].pair == "b");
  CHECK(json.samples[1].score == 4.0);
  CHECK(json.samples[2].text == "p");
  CHECK(json.samples[2].pair == "h");
  const TextDataset scores = set_of("jsonl", R"({"sentence1": "a", "sentence2": "b", "label": 3.8})"
                                             "\n"
                                             R"({"sentence1": "a", "sentence2": "b", "label": 5})");
  CHECK(scores.samples[0].score == 3.8);
  CHECK(scores.samples[1].score == 5.0);
  CHECK(labels_of(scores) == std::vector<int32_t>{-1, -1});
  CHECK(scores.class_names.empty());
}

TEST_CASE("text set: SQuAD 1.1 and 2.0") {
  const TextDataset set = set_of("squad", R"({"version": "v2.0", "data": [{"title": "t",
    "paragraphs": [{"context": "The cat sat.", "qas": [
      {"id": "1", "question": "Who?", "answers": [{"text": "The cat", "answer_start": 0},
                                                   {"text": "cat", "answer_start": 4}]},
      {"id": "2", "question": "Why?", "answers": [], "is_impossible": true}]}]}]})");
  REQUIRE(set.samples.size() == 2);
  CHECK(set.samples[0].id == "1");
  CHECK(set.samples[0].text == "Who?");
  CHECK(set.samples[0].pair == "The cat sat.");
  CHECK(set.samples[0].answers == std::vector<std::string>{"The cat", "cat"});
  CHECK(set.samples[1].answers.empty());
}

TEST_CASE("text set: what is wrong is named by place and line") {
  const struct {
    const char* format;
    std::string text;
    const char* message;
  } kCases[] = {
      {"stsb", kStsb + "\na\tb\tc\n", "set: line 4: 3 fields, expected 7 or more"},
      {"stsb", "g\tf\ty\t1\t5.1\ta\tb\n", "line 1: score 5.100000 is not from 0 to 5"},
      {"stsb", "g\tf\ty\t1\tnan\ta\tb\n", "line 1: score 'nan' is no number"},
      {"stsb", "g\tf\ty\t1\t4x\ta\tb\n", "line 1: score '4x' is no number"},
      {"glue-tsv", "one\ttwo\na\t1\n", "line 1: no column of text"},
      {"glue-tsv", "sentence\tlabel\na\t1\t2\n", "line 2: 3 fields, expected 2"},
      {"glue-tsv", "sentence\tlabel\n", "set: no texts in it"},
      {"tsv", "a\t1\nb\n", "line 2: 1 fields, expected 2"},
      {"txt", "\n\n", "set: no texts in it"},
      {"txt", "", "set: no texts in it"},
      {"jsonl", "{\"text\": \"a\"}\n[1]\n", "line 2: is no JSON object"},
      {"jsonl", "{\"text\": \"a\"\n", "line 1: is no JSON object"},
      {"jsonl", "{\"label\": 1}\n", "line 1: no text, like 'text' or 'sentence1'"},
      {"jsonl", R"({"text": ["a"]})", "line 1: text is neither text nor number"},
      {"jsonl", R"({"text": "a", "score": "high"})", "line 1: score 'high' is no number"},
      {"squad", "{", "set: no valid JSON"},
      {"squad", "[]", "set: no list 'data' at the top"},
      {"squad", R"({"data": [{}]})", "article 0: no list 'paragraphs'"},
      {"squad", R"({"data": [{"paragraphs": [{"context": "c"}]}]})",
       "article 0, paragraph 0: no 'context' or no 'qas'"},
      {"squad",
       R"({"data": [{"paragraphs": [{"context": "c", "qas": [{"id": "7", "question": "q", "answers": []}]}]}]})",
       "question '7': has no answers and is not marked 'is_impossible'"},
      {"squad",
       R"({"data": [{"paragraphs": [{"context": "c", "qas": [{"id": "7", "question": "q", "answers": [{}]}]}]}]})",
       "question '7': an answer has no 'text'"},
      {"squad", std::string(1000, '['), "set: JSON is nested deeper than 32"},
  };
  const TempFolder folder;
  for (const auto& c : kCases) {
    CAPTURE(c.text);
    const std::string spec = std::string(c.format) + ":" + folder.write("set", c.text);
    CHECK(mentions(message_of(open_text_dataset(spec)), c.message));
  }
  CHECK(mentions(message_of(open_text_dataset("csv:x")), "csv:x: is none of stsb:FILE glue-tsv:"));
  CHECK(!is_text_dataset("stsb"));
  CHECK(is_text_dataset("stsb:x"));
  CHECK(open_text_dataset("txt:" + (folder.path / "none").string()).error().code ==
        Status::kNotFound);
}

TEST_CASE("text file: gzip and archives give what the file gives") {
  const TempFolder folder;
  const std::string at = folder.path.string();
  folder.write("sets/sub/my-test.csv", "mine");
  folder.write("sets/sub/train.csv", "trained");
  folder.write("sets/train.csv", "other");
  run("cd " + at + " && gzip -k sets/train.csv && tar czf sets.tar.gz sets/sub && " +
      "tar cf two.tar sets/sub sets/train.csv && tar cf one.tar sets/sub/train.csv");
  const auto read = [&at](const std::string& place) {
    const auto text = read_text_file(at + "/" + place);
    return text.ok() ? *text : text.error().message;
  };
  CHECK(read("sets/train.csv") == "other");
  CHECK(read("sets/train.csv.gz") == "other");
  CHECK(read("sets.tar.gz") == "mine");  // the only one with "test"
  CHECK(read("sets.tar.gz#train.csv") == "trained");
  CHECK(read("sets.tar.gz#sets/sub/train.csv") == "trained");
  CHECK(read("one.tar") == "trained");
  CHECK(mentions(read("two.tar#train.csv"), "2 files fit 'train.csv'; write"));
  CHECK(read("two.tar#sub/train.csv") == "trained");
  CHECK(mentions(read("sets.tar.gz#test.csv"), "0 files fit 'test.csv'"));  // no part of a name
  CHECK(mentions(read("sets.tar.gz#none"), "with one of: sets/sub/"));
  CHECK(mentions(read("sets/train.csv#x"), "is no tar archive with a file 'x'"));
}

TEST_CASE("gzip: members are joined, damage and size are found") {
  const TempFolder folder;
  const std::string at = folder.path.string();
  std::string text;
  for (int i = 0; i < 100000; ++i) text += std::to_string(i);
  folder.write("a", text);
  run("cd " + at + " && gzip -k a && cat a.gz a.gz > b.gz");
  const auto load = [&at](const char* name) {
    std::ifstream file(at + "/" + name, std::ios::binary);
    return std::string((std::istreambuf_iterator<char>(file)), {});
  };
  const auto unpack = [](const std::string& packed, uint64_t limit = 1 << 24) {
    const auto out = gunzip("x.gz", std::as_bytes(std::span(packed)), limit);
    return out.ok() ? std::string(reinterpret_cast<const char*>(out->data()), out->size())
                    : out.error().message;
  };
  const std::string packed = load("a.gz");
  CHECK(unpack(packed) == text);
  CHECK(unpack(load("b.gz")) == text + text);
  CHECK(mentions(unpack(packed, 400000), "x.gz: unpacks to more than 400000 bytes"));
  for (size_t n = 2; n < packed.size(); n += n < 64 ? 1 : 997)
    CHECK(mentions(unpack(packed.substr(0, n)), "x.gz: gzip file is cut short"));
  for (const size_t byte : {packed.size() / 2, packed.size() - 6}) {
    std::string damaged = packed;
    damaged[byte] ^= 0x10;
    CHECK(mentions(unpack(damaged), "x.gz: damaged gzip file"));
  }
  CHECK(mentions(unpack(packed + "x"), "x.gz: gzip file is cut short"));
  CHECK(mentions(unpack(packed + "xxx"), "x.gz: damaged gzip file (incorrect header check)"));
}

// Expected values: Python's csv-free reading of the same files, summed by NumPy.
TEST_CASE("text set: the STS benchmark and SST-2 as they are stored") {
  const char* variable = std::getenv("MPQ_DATA");
  const fs::path data = variable == nullptr ? "../shared/data" : variable;
  if (fs::exists(data / "stsb.tar.gz")) {
    const struct {
      const char* member;
      size_t samples;
      double scores;
      size_t text_bytes, pair_bytes;
    } kParts[] = {{"", 1379, 3596.317, 74127, 73796},
                  {"#sts-dev.csv", 1500, 3545.8613333333333, 96434, 95630},
                  {"#sts-train.csv", 5749, 15528.043396825396, 332196, 330922}};
    for (const auto& part : kParts) {
      const auto set = open_text_dataset("stsb:" + (data / "stsb.tar.gz").string() + part.member);
      REQUIRE_MESSAGE(set.ok(), message_of(set));
      CHECK(set->samples.size() == part.samples);
      double scores = 0;
      size_t text_bytes = 0, pair_bytes = 0;
      for (const TextSample& sample : set->samples) {
        scores += sample.score;
        text_bytes += sample.text.size();
        pair_bytes += sample.pair.size();
      }
      CHECK(scores == doctest::Approx(part.scores).epsilon(1e-12));
      CHECK(text_bytes == part.text_bytes);
      CHECK(pair_bytes == part.pair_bytes);
    }
  } else {
    std::printf("SKIPPED: text set: STS benchmark: no %s\n", (data / "stsb.tar.gz").c_str());
  }
  if (fs::exists(data / "sst2_glue.tar.gz")) {
    const auto set = open_text_dataset("glue-tsv:" + (data / "sst2_glue.tar.gz").string());
    REQUIRE_MESSAGE(set.ok(), message_of(set));
    CHECK(set->samples.size() == 872);
    size_t positive = 0;
    for (const TextSample& sample : set->samples) positive += sample.label == 1;
    CHECK(positive == 444);
  } else {
    std::printf("SKIPPED: text set: SST-2: no %s\n", (data / "sst2_glue.tar.gz").c_str());
  }
}

}  // namespace mpq::data
