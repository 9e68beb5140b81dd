// mpqrun compare A B: how far the outputs of two models, of two instruction sets, or of a model and
// a file of outputs lie apart.
#include <algorithm>
#include <cmath>

#include "runtime/cli/classes.h"
#include "runtime/cli/inputs.h"
#include "runtime/cli/report.h"
#include "runtime/cli/terminal.h"
#include "runtime/cli/text.h"
#include "runtime/cli/verbs.h"

namespace mpq::cli {

namespace {

using Values = std::vector<double>;

Values values_of(const std::byte* data, const TensorInfo& info) {
  Values values(info.elements);
  for (size_t i = 0; i < values.size(); ++i) values[i] = element(data, info.dtype, i);
  return values;
}

struct LayerValues {
  std::string name;
  Values values;
};

// One side of the comparison: gives output 0 for sample i.
class Side {
 public:
  virtual ~Side() = default;
  virtual Result<Values> output(size_t index) = 0;
  // First outputs of all layers for the last sample, in order.
  virtual Result<std::vector<LayerValues>> layers() = 0;
  virtual size_t size() const = 0;  // samples
  virtual std::string name() const = 0;
};

class ModelSide : public Side {
 public:
  static Result<std::unique_ptr<Side>> create(const std::string& path, const std::string& isa,
                                              const std::string& device, const Args& args) {
    auto side = std::make_unique<ModelSide>();
    MPQ_TRY(const uint64_t limit, args.whole("limit"));
    MPQ_TRY(const uint64_t rounds, args.whole("rounds"));
    SessionSpec spec;
    MPQ_TRY(spec.threads, single(args, "threads"));
    spec.isa = isa;
    spec.device = device;
    spec.keep_tensors = args.has("per-layer");
    MPQ_TRY(side->model_, Model::open(path, args));
    MPQ_TRY(side->source_,
            SampleSource::create(side->model_, args, limit, std::max<uint64_t>(rounds, 1)));
    MPQ_TRY(side->session_, Session::create(side->model_, spec, args));
    return std::unique_ptr<Side>(std::move(side));
  }
  Result<Values> output(size_t index) override {
    MPQ_TRY(const Sample sample, source_.get(index));
    MPQ_CHECK(fill(&session_, {sample}, 0));
    MPQ_CHECK(session_.run());
    MPQ_TRY(const std::byte* const data, session_.output(0));
    return values_of(data, session_.outputs()[0]);
  }
  Result<std::vector<LayerValues>> layers() override {
    std::vector<LayerValues> layers;
    for (const mpq_node_info& node : model_.nodes()) {
      mpq_tensor_info raw;
      MPQ_INIT(&raw);
      MPQ_CHECK(check(mpq_session_tensor_info(session_.get(), node.output, &raw), model_.path()));
      TensorInfo info;
      info.dtype = static_cast<mpq_dtype>(raw.dtype);
      info.elements = raw.elements;
      std::vector<std::byte> data(raw.bytes);
      MPQ_CHECK(check(mpq_session_get_tensor(session_.get(), node.output, data.data(), data.size()),
                      model_.path()));
      layers.push_back({node.name, values_of(data.data(), info)});
    }
    return layers;
  }
  size_t size() const override { return source_.size(); }
  std::string name() const override { return model_.path() + " (" + session_.isa() + ")"; }

 private:
  Model model_;
  SampleSource source_;
  Session session_;
};

class FileSide : public Side {
 public:
  static Result<std::unique_ptr<Side>> create(const std::string& path) {
    auto side = std::make_unique<FileSide>();
    side->path_ = path;
    MPQ_TRY(side->array_, read_npy(path));
    if (side->array_.shape.size() < 2 || side->array_.data.empty())
      return Error{Status::kInvalidArgument,
                   path + ": outputs are an array of shape [images, ...]"};
    return std::unique_ptr<Side>(std::move(side));
  }
  Result<Values> output(size_t index) override {
    const uint64_t row = array_.elements() / array_.shape[0];
    Values values(row);
    for (uint64_t i = 0; i < row; ++i) values[i] = array_.at(index * row + i);
    return values;
  }
  Result<std::vector<LayerValues>> layers() override {
    return Error{Status::kInvalidArgument, path_ + ": --per-layer needs two models"};
  }
  size_t size() const override { return array_.shape[0]; }
  std::string name() const override { return path_; }

 private:
  std::string path_;
  Array array_;
};

struct Difference {
  size_t samples = 0, values = 0, different = 0, same_top = 0;
  double l1 = 0.0, squares = 0.0, linf = 0.0;  // sums over all values
  double cos_min = 1.0, cos_sum = 0.0;

  void add(const Values& a, const Values& b) {
    double dot = 0.0, aa = 0.0, bb = 0.0;
    for (size_t i = 0; i < a.size(); ++i) {
      const double d = a[i] == b[i] ? 0.0 : std::fabs(a[i] - b[i]);
      different += d != 0.0 ? 1 : 0;
      l1 += d;
      squares += d * d;
      linf = std::max(linf, std::isnan(d) ? INFINITY : d);
      dot += a[i] * b[i];
      aa += a[i] * a[i];
      bb += b[i] * b[i];
    }
    const double norm = std::sqrt(aa * bb);  // exactly aa when both are equal
    const double cosine = norm > 0.0 ? dot / norm : aa == bb ? 1.0 : 0.0;
    cos_min = std::min(cos_min, cosine);
    cos_sum += cosine;
    same_top += std::max_element(a.begin(), a.end()) - a.begin() ==
                        std::max_element(b.begin(), b.end()) - b.begin()
                    ? 1
                    : 0;
    ++samples;
    values += a.size();
  }
  double mean_l1() const { return values != 0 ? l1 / static_cast<double>(values) : 0.0; }
  double rms() const {
    return values != 0 ? std::sqrt(squares / static_cast<double>(values)) : 0.0;
  }
  double mean_cos() const { return samples != 0 ? cos_sum / static_cast<double>(samples) : 0.0; }
  double agreement() const {
    return samples != 0 ? static_cast<double>(same_top) / static_cast<double>(samples) : 0.0;
  }
};

Result<std::vector<std::unique_ptr<Side>>> open_sides(const Args& args) {
  std::vector<std::string> files = args.files();
  if (args.has("ref")) files.push_back(args.text("ref"));
  std::vector<std::string> levels = split(args.text("isa"), ',');
  std::vector<std::string> devices = split(args.text("device"), ',');
  if (files.empty() || files.size() > 2 || levels.size() > 2 || devices.size() > 2 ||
      (files.size() == 1 && levels.size() == 1 && devices.size() == 1))
    return Error{Status::kInvalidArgument,
                 "compare: two files (A B), or one and --isa X,Y or --device X,Y"};
  for (auto* names : {&files, &levels, &devices})
    if (names->size() == 1) names->push_back(names->front());
  std::vector<std::unique_ptr<Side>> sides;
  for (size_t i = 0; i < 2; ++i) {
    MPQ_TRY(std::unique_ptr<Side> side,
            files[i].ends_with(".npy") ? FileSide::create(files[i])
                                       : ModelSide::create(files[i], levels[i], devices[i], args));
    sides.push_back(std::move(side));
  }
  return sides;
}

struct LayerDifference {
  std::string name;
  Difference difference;
};

// Layers are matched by name: models converted from one source keep their names.
Checked add_layers(Side* a, Side* b, std::vector<LayerDifference>* sums) {
  MPQ_TRY(const std::vector<LayerValues> left, a->layers());
  MPQ_TRY(const std::vector<LayerValues> right, b->layers());
  size_t row = 0;
  for (const LayerValues& layer : left) {
    const auto twin = std::find_if(right.begin(), right.end(), [&](const LayerValues& other) {
      return other.name == layer.name && other.values.size() == layer.values.size();
    });
    if (twin == right.end()) continue;
    if (row == sums->size()) sums->push_back({layer.name, {}});
    (*sums)[row++].difference.add(layer.values, twin->values);
  }
  return Ok{};
}

Table layer_table(const std::vector<LayerDifference>& layers) {
  Table table{{{"layer", false}, {"values"}, {"different"}, {"mean |d|"}, {"max |d|"}, {"min cos"}},
              {}};
  for (const auto& [name, d] : layers)
    table.rows.push_back({name, std::to_string(d.values), std::to_string(d.different),
                          format("%.6g", d.mean_l1()), format("%.6g", d.linf),
                          format("%.8f", d.cos_min)});
  return table;
}

struct Gate {
  const char* option;
  bool percent;
  bool least;  // the value must be at least the option's
  double value;
};

}  // namespace

Result<ExitCode> run_compare(const Args& args) {
  MPQ_TRY(const Report report,
          Report::create(args, {Output::kText, Output::kJson, Output::kCsv, Output::kMarkdown}));
  MPQ_TRY(const std::vector<std::unique_ptr<Side>> sides, open_sides(args));
  const size_t count = std::min(sides[0]->size(), sides[1]->size());
  if (sides[0]->size() != sides[1]->size())
    warn(format("%s has %zu samples, %s has %zu: the first %zu are compared",
                sides[0]->name().c_str(), sides[0]->size(), sides[1]->name().c_str(),
                sides[1]->size(), count));
  Difference difference;
  std::vector<LayerDifference> layers;
  {
    Progress progress(args, "compare", count);
    for (size_t i = 0; i < count && !interrupted(); ++i) {
      MPQ_TRY(const Values a, sides[0]->output(i));
      MPQ_TRY(const Values b, sides[1]->output(i));
      if (a.size() != b.size())
        return Error{Status::kInvalidArgument,
                     format("%s has %zu values a sample, %s has %zu", sides[0]->name().c_str(),
                            a.size(), sides[1]->name().c_str(), b.size())};
      difference.add(a, b);
      if (args.has("per-layer")) MPQ_CHECK(add_layers(sides[0].get(), sides[1].get(), &layers));
      progress.update(i + 1);
    }
  }
  const Difference& d = difference;
  Table table{{{"samples"},
               {"values"},
               {"different"},
               {"mean |d|"},
               {"rms d"},
               {"max |d|"},
               {"min cos"},
               {"mean cos"},
               {"same top-1 %"}},
              {}};
  table.rows.push_back({std::to_string(d.samples), std::to_string(d.values),
                        std::to_string(d.different), format("%.6g", d.mean_l1()),
                        format("%.6g", d.rms()), format("%.6g", d.linf), format("%.8f", d.cos_min),
                        format("%.8f", d.mean_cos()), format("%.3f", d.agreement() * 100)});
  report.print("a: " + sides[0]->name() + "\nb: " + sides[1]->name() + "\n");
  report.print(table);
  if (!layers.empty()) {
    report.print("\ncodes layer by layer, over all samples\n");
    report.print(layer_table(layers));
  }

  ExitCode code = kExitOk;
  for (const Gate& gate : {Gate{"min-cos", false, true, d.cos_min},
                           {"max-linf", false, false, d.linf},
                           {"min-agree", true, true, d.agreement()}}) {
    if (!args.has(gate.option)) continue;
    MPQ_TRY(const double limit, gate.percent ? args.percent(gate.option) : args.real(gate.option));
    if (gate.least ? gate.value >= limit : gate.value <= limit) continue;
    complain(format("--%s: %.8g does not meet %.8g", gate.option, gate.value, limit));
    code = kExitAccuracy;
  }
  Json document = json_head(args, nullptr);
  document["a"] = sides[0]->name();
  document["b"] = sides[1]->name();
  document["samples"] = d.samples;
  document["values"] = d.values;
  document["different"] = d.different;
  document["l1_mean"] = d.mean_l1();
  document["l2_rms"] = d.rms();
  document["linf"] = d.linf;
  document["cos_min"] = d.cos_min;
  document["cos_mean"] = d.mean_cos();
  document["top1_agreement"] = d.agreement();
  for (const auto& [name, sum] : layers)
    document["layers"].push_back({{"name", name},
                                  {"values", sum.values},
                                  {"different", sum.different},
                                  {"l1_mean", sum.mean_l1()},
                                  {"linf", sum.linf},
                                  {"cos_min", sum.cos_min}});
  document["complete"] = !interrupted();
  MPQ_CHECK(report.finish(document));
  return code;
}

}  // namespace mpq::cli
