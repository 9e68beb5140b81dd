#include <doctest/doctest.h>

#include "kernels/sequence/sequence.h"
#include "tests/cuda/family_problems.h"

namespace mpq::test {
namespace {

std::vector<uint32_t> random_starts(uint32_t sequences, uint32_t longest, Rng& rng) {
  std::vector<uint32_t> starts = {0};
  for (uint32_t i = 0; i < sequences; ++i) starts.push_back(starts.back() + 1 + rng.below(longest));
  return starts;
}

TEST_CASE("CUDA embedding gives the CPU's bytes") {
  Rng rng(test_seed());
  for (uint32_t i = 0; i < test_cases(8); ++i) {
    const uint32_t width = 1 + rng.below(300), words = 1 + rng.below(40),
                   sequences = 1 + rng.below(4);
    const std::vector<uint32_t> starts = random_starts(sequences, 9, rng);
    std::vector<int32_t> ids(starts.back()), types(starts.back());
    for (int32_t& id : ids) id = static_cast<int32_t>(rng.below(words));
    for (int32_t& type : types) type = static_cast<int32_t>(rng.below(2));
    const std::vector<float> table = random_floats(size_t{words} * width, -3, 3, rng),
                             positions = random_floats(size_t{12} * width, -3, 3, rng),
                             type_rows = random_floats(size_t{2} * width, -3, 3, rng),
                             scale = random_floats(words, -3, 3, rng);
    std::vector<int8_t> codes(size_t{words} * width);
    for (int8_t& code : codes) code = static_cast<int8_t>(rng.between(-128, 127));
    const bool coded = rng.chance(2), typed = rng.chance(2);
    std::vector<float> y(size_t{starts.back()} * width);
    kernels::embed({ids.data(), typed ? types.data() : nullptr, starts.data(), sequences, width,
                    coded ? nullptr : table.data(), codes.data(), scale.data(), positions.data(),
                    type_rows.data(), 2, y.data()},
                   {0, sequences});

    CudaProblem problem;
    Device& d = problem.device;
    cuda::EmbeddingParams p;
    p.ids = d.upload(ids);
    if (typed) p.types = d.upload(types);
    p.starts = d.upload(starts);
    p.sequences = sequences;
    p.max_length = 9;
    p.width = width;
    if (!coded) p.words = d.upload(table);
    p.word_codes = d.upload(codes);
    p.word_scale = d.upload(scale);
    p.positions = d.upload(positions);
    p.type_rows = d.upload(type_rows);
    p.position_offset = 2;
    p.y = problem.expect("y", y);
    problem.launch_other("embed", p);
    require_everywhere(problem);
  }
}

TEST_CASE("CUDA pooling of sequences gives the CPU's bytes") {
  Rng rng(test_seed() + 1);
  for (uint32_t i = 0; i < test_cases(8); ++i) {
    SequencePoolCase c;
    for (uint32_t j = 1 + rng.below(4); j > 0; --j) c.lengths.push_back(1 + rng.below(20));
    c.width = 1 + rng.below(700);
    c.mean = rng.chance(2);
    c.normalise = !rng.chance(3);
    c.negative_zeros = rng.chance(4);
    CudaProblem problem;
    make_sequence_pool_problem(c, rng, &problem);
    require_everywhere(problem);
  }
}

}  // namespace
}  // namespace mpq::test
