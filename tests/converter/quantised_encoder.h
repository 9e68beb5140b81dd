// Tiny encoders quantised on texts at random, for tests.
#pragma once

#include <doctest/doctest.h>

#include <cmath>
#include <string>
#include <vector>

#include "converter/lower.h"
#include "converter/passes/quantize.h"
#include "encoder_graph.h"

namespace mpq::convert {

using Head = EncoderShape::Head;

struct Quantised {
  Graph graph;
  PtqReport report;
  LoweredModel lowered;
};

inline SequenceData calibration(const EncoderShape& shape) {
  return random_sequences(shape, {12, 3, 7, 12, 5, 9, 2, 11, 12, 6, 8, 10, 4, 12, 12, 7}, 21);
}
inline SequenceData fresh(const EncoderShape& shape) {
  return random_sequences(shape, {9, 1, 12, 5, 12}, 22);
}

inline Quantised quantised(const EncoderShape& shape, const Graph& real, const BitsMap& bits,
                           const PtqOptions& options = {}) {
  Quantised q{.graph = real, .report = {}, .lowered = {}};
  const SequenceData data = calibration(shape);
  const CalibrationData samples{.samples = {}, .count = 0, .sequences = &data};
  auto report = quantize(&q.graph, bits, samples, options);
  REQUIRE_MESSAGE(report.ok(), report.error().message);
  q.report = *std::move(report);
  auto lowered = lower(q.graph, {});
  REQUIRE_MESSAGE(lowered.ok(), lowered.error().message);
  q.lowered = *std::move(lowered);
  return q;
}

inline BitsMap bits_of(const Graph& graph, int weight, int activation) {
  BitsMap bits;
  for (const Node& node : graph.nodes)
    if (std::holds_alternative<Linear>(node.op)) bits[node.name] = {weight, activation};
  return bits;
}

inline std::vector<float> outputs(const Graph& graph, const SequenceData& data) {
  const auto rows = evaluate_sequences(graph, data);
  REQUIRE(rows.ok());
  return *rows;
}

inline double decibels(const std::vector<float>& real, const std::vector<float>& other) {
  REQUIRE(real.size() == other.size());
  double signal = 0.0, noise = 1e-30;
  for (size_t i = 0; i < real.size(); ++i) {
    signal += double{real[i]} * double{real[i]};
    noise += (double{real[i]} - double{other[i]}) * (double{real[i]} - double{other[i]});
  }
  return 10.0 * std::log10(signal / noise);
}

inline bool mentions(const std::string& text, const std::string& part) {
  if (text.find(part) != std::string::npos) return true;
  MESSAGE("\"" << text << "\" lacks \"" << part << "\"");
  return false;
}

}  // namespace mpq::convert
