// mpqconvert evaluate: the float network on texts: what a conversion is measured against.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>

#include "converter/cli/command.h"
#include "converter/cli/input.h"
#include "converter/cli/network.h"
#include "converter/cli/output.h"
#include "converter/cli/progress.h"
#include "converter/data/text_dataset.h"
#include "converter/data/text_metrics.h"
#include "converter/eval_sequences.h"
#include "converter/transformer/tokenizer_files.h"
#include "text/tokenizer.h"

namespace mpq::convert::cli {
namespace {

struct Request {
  std::string input, dataset, save;
  std::vector<std::string> pairs;
  uint32_t limit = 0;
  NetworkOptions network;
};

// Rows of sequences, in parts that fit in memory.
Result<std::vector<float>> embed(const Graph& graph, const text::Tokenizer& tokenizer,
                                 const std::vector<const std::string*>& texts, bool quiet) {
  constexpr size_t kAtOnce = 256;
  std::vector<float> rows;
  Progress progress("evaluating", quiet);
  for (size_t begin = 0; begin < texts.size(); begin += kAtOnce) {
    SequenceData data;
    for (size_t i = begin; i < std::min(texts.size(), begin + kAtOnce); ++i) {
      const text::Encoding encoding = tokenizer.encode(*texts[i], graph.sequence_length);
      data.add(encoding.ids, encoding.types);
    }
    MPQ_TRY(const std::vector<float> part, evaluate_sequences(graph, data));
    rows.insert(rows.end(), part.begin(), part.end());
    progress.update(std::min(texts.size(), begin + kAtOnce), texts.size(), "");
  }
  return rows;
}

double cosine(const float* a, const float* b, size_t width) {
  double ab = 0.0, aa = 0.0, bb = 0.0;
  for (size_t i = 0; i < width; ++i) {
    ab += double{a[i]} * double{b[i]};
    aa += double{a[i]} * double{a[i]};
    bb += double{b[i]} * double{b[i]};
  }
  return aa > 0.0 && bb > 0.0 ? ab / std::sqrt(aa * bb) : 0.0;
}

Result<std::vector<data::TextSample>> samples_of(const Request& request) {
  std::vector<data::TextSample> samples;
  if (!request.dataset.empty()) {
    MPQ_TRY(data::TextDataset set, data::open_text_dataset(request.dataset));
    samples = std::move(set.samples);
    if (request.limit != 0 && request.limit < samples.size()) samples.resize(request.limit);
  }
  for (const std::string& pair : request.pairs) {
    const size_t bar = pair.find(" | ");
    if (bar == std::string::npos)
      return Error{Status::kInvalidArgument, "'" + pair + "' is not 'text | text'"};
    data::TextSample sample;
    sample.text = pair.substr(0, bar);
    sample.pair = pair.substr(bar + 3);
    samples.push_back(std::move(sample));
  }
  if (samples.empty())
    return Error{Status::kInvalidArgument, "give texts: --dataset stsb:FILE, or -i 'text | text'"};
  for (const data::TextSample& sample : samples)
    if (sample.pair.empty() && request.save.empty())
      return Error{Status::kInvalidArgument, "'" + sample.text + "' is no pair of texts"};
  return samples;
}

// Rows of float as NumPy's .npy, version 1.0 of the format.
std::string npy_of(const std::vector<float>& rows, size_t width) {
  std::string header =
      fmt::format("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {}), }}",
                  rows.size() / width, width);
  constexpr size_t kBefore = 10, kAligned = 64;
  header.resize((header.size() + kBefore + kAligned) / kAligned * kAligned - kBefore - 1, ' ');
  header += '\n';
  std::string file("\x93NUMPY\x01\0", 8);
  file += static_cast<char>(header.size() & 0xFF);
  file += static_cast<char>(header.size() >> 8);
  file += header;
  file.append(reinterpret_cast<const char*>(rows.data()), rows.size() * sizeof(float));
  return file;
}

Checked run_evaluate(const Request& request, const Global& global) {
  MPQ_TRY(const Network network, load_network(request.input, request.network));
  const Graph& graph = network.graph;
  const int last = producer(graph, graph.outputs[0]);
  if (!network.takes_texts() || last < 0 ||
      !std::holds_alternative<SequencePool>(graph.nodes[static_cast<size_t>(last)].op))
    return Error{Status::kUnsupported,
                 request.input + ": only encoders of sentences (with pooling) are evaluated"};
  MPQ_TRY(const std::vector<data::TextSample> samples, samples_of(request));
  MPQ_TRY(const transformer::TokenizerFiles files, transformer::read_tokenizer(network.tokenizer));
  MPQ_TRY(const text::Tokenizer tokenizer,
          text::Tokenizer::create(files.settings, files.vocabulary));
  std::vector<const std::string*> texts;
  for (const data::TextSample& sample : samples) {
    texts.push_back(&sample.text);
    if (!sample.pair.empty()) texts.push_back(&sample.pair);
  }
  const auto start = std::chrono::steady_clock::now();
  MPQ_TRY(const std::vector<float> rows, embed(graph, tokenizer, texts, global.quiet));
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;

  const size_t width = rows.size() / texts.size();
  if (!request.save.empty()) MPQ_CHECK(write_text(request.save, npy_of(rows, width)));
  if (texts.size() != 2 * samples.size()) return Ok{};  // not pairs: there is nothing to compare
  std::vector<double> ours, theirs;
  auto results = nlohmann::ordered_json::array();
  for (size_t i = 0; i < samples.size(); ++i) {
    ours.push_back(cosine(&rows[2 * i * width], &rows[(2 * i + 1) * width], width));
    theirs.push_back(samples[i].score);
    if (i + request.pairs.size() < samples.size()) continue;
    results.push_back(
        {{"text", samples[i].text}, {"pair", samples[i].pair}, {"cosine", ours.back()}});
    if (!global.json)
      fmt::print("cosine {:7.4f}  {} | {}\n", ours.back(), samples[i].text, samples[i].pair);
  }
  ours.resize(samples.size() - request.pairs.size());
  theirs.resize(ours.size());
  nlohmann::ordered_json json = {{"schema_version", 1}, {"input", request.input}};
  json["samples"] = ours.size();
  json["sequences_per_second"] = static_cast<double>(texts.size()) / seconds.count();
  json["results"] = std::move(results);
  if (!ours.empty()) {
    json["spearman"] = data::spearman(ours, theirs);
    json["pearson"] = data::pearson(ours, theirs);
    if (!global.json)
      fmt::print("{} pairs in float: Spearman {:.5f}, Pearson {:.5f}, {:.1f} sequences/s\n",
                 ours.size(), data::spearman(ours, theirs), data::pearson(ours, theirs),
                 static_cast<double>(texts.size()) / seconds.count());
  }
  return global.json ? write_text("-", json.dump(2) + "\n") : Checked(Ok{});
}

}  // namespace

Run add_evaluate(CLI::App* app, const Global* global) {
  auto request = std::make_shared<Request>();
  app->add_option("input", request->input, "sentence encoder: a folder, or an ONNX file")
      ->required();
  app->add_option("--dataset", request->dataset,
                  "pairs of texts with a similarity: stsb:FILE, ...");
  app->add_option("-i,--pair", request->pairs, "a pair of texts, 'text | text'; may be repeated");
  app->add_option("--save", request->save,
                  "write the embeddings, a row a text: .npy; texts need be no pairs then");
  app->add_option("--limit", request->limit, "first N pairs only");
  app->add_option("--max-tokens", request->network.max_tokens, "longest text in tokens");
  app->add_option("--tokenizer", request->network.tokenizer, kTokenizerHelp);
  return [request, global] { return run_evaluate(*request, *global); };
}

}  // namespace mpq::convert::cli
