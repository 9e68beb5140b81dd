// Folders of tiny BERT and MPNet encoders, as Hugging Face's tools write them, and what they
// compute.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "format/types.h"
#include "tests/support/temp_folder.h"

namespace mpq::convert::transformer {

struct EncoderTensor {
  Shape shape;
  std::vector<float> data;
};

struct EncoderFiles {
  nlohmann::json config;
  std::map<std::string, EncoderTensor> tensors;
  std::map<std::string, std::string> others;  // files by name
};

// Two layers of width 8 with 2 heads and 12 in between, 20 words. `architecture`: a class of the
// transformers library; its name says which head there is. `prefix`: of the encoder's tensors.
EncoderFiles encoder_files(const std::string& architecture, const std::string& prefix,
                           uint32_t seed);
// What sentence-transformers add: "mean" or "cls", and a normalisation.
void add_pooling(EncoderFiles* files, const std::string& mode, bool normalise);
void write_files(const EncoderFiles& files, const tests::TempFolder& folder);

using Rows = std::vector<std::vector<double>>;
// Hidden states of a sequence straight from the tensors, as transformers' modeling_bert.py and
// modeling_mpnet.py have it; and a linear layer of a head.
Rows hidden_states(const EncoderFiles& files, const std::string& prefix,
                   std::span<const int32_t> ids, std::span<const int32_t> types);
Rows dense(const EncoderFiles& files, const std::string& name, const Rows& x);

// The bucket of a distance key - query by T5's formula (Raffel et al., arXiv 1910.10683, as
// published in code): in doubles, and exact at powers of 2, where binary32 may fall either side.
int relative_bucket(int distance, int buckets);

}  // namespace mpq::convert::transformer
