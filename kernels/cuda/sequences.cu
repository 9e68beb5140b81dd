// The two ends of a sequence model (kernels/sequence/sequence.h has the formulas).
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/params.h"
#include "kernels/cuda/sum16.h"

namespace mpq::cuda {
namespace {

// A block a token.
MPQ_DEVICE void embed_token(const EmbeddingParams& p) {
  const uint32_t sequence = block_y(), start = load_const(p.starts + sequence);
  const uint32_t place = block_x(), token = start + place;
  if (token >= load_const(p.starts + sequence + 1)) return;
  const uint64_t width = p.width;
  const auto id = static_cast<uint64_t>(load_const(p.ids + token));
  const float* position = p.positions + (static_cast<uint64_t>(p.position_offset) + place) * width;
  const float* type =
      p.types == nullptr ? nullptr
                         : p.type_rows + static_cast<uint64_t>(load_const(p.types + token)) * width;
  for (uint32_t i = thread_index(); i < p.width; i += kSequenceThreads) {
    float v = p.words != nullptr ? load_const(p.words + id * width + i)
                                 : mul(to_float(load_const(p.word_codes + id * width + i)),
                                       load_const(p.word_scale + id));
    v = add(v, load_const(position + i));
    if (type != nullptr) v = add(v, load_const(type + i));
    store(p.y + token * width + i, v);
  }
}

// A block a sequence: its row lies in shared memory until its length is known.
MPQ_DEVICE void pool_sequence(const SequencePoolParams& p) {
  const uint32_t sequence = block_x(), start = load_const(p.starts + sequence);
  const uint32_t tokens = load_const(p.starts + sequence + 1) - start;
  const uint64_t width = p.width;
  const float* x = p.x + start * width;
  for (uint32_t i = thread_index(); i < p.width; i += kSequenceThreads) {
    float v = load_const(x + i);
    if (p.mean != 0) {
      v = add(0.0F, v);
      for (uint32_t token = 1; token < tokens; ++token)
        v = add(v, load_const(x + token * width + i));
      v = div(v, to_float(static_cast<int32_t>(tokens)));
    }
    if (p.normalise == 0)
      store(p.y + sequence * width + i, v);
    else
      shared_store(4 * i, bits_of(v));
  }
  if (p.normalise == 0) return;
  bar_sync();
  // Every half of every warp does the same, which spares another barrier.
  float squares = 0.0F;
  for (uint32_t i = thread_index() % 16; i < p.width; i += 16) {
    const float v = float_of(shared_load(4 * i));
    squares = fma(v, v, squares);
  }
  const float size = sqrt(fold_lanes(squares));
  const float divisor = size > 1e-12F ? size : 1e-12F;
  for (uint32_t i = thread_index(); i < p.width; i += kSequenceThreads)
    store(p.y + sequence * width + i, div(float_of(shared_load(4 * i)), divisor));
}

}  // namespace
}  // namespace mpq::cuda

MPQ_KERNEL(mpq::cuda::kSequenceThreads) embed(MPQ_PARAMS(mpq::cuda::EmbeddingParams) p) {
  mpq::cuda::embed_token(p);
}
MPQ_KERNEL(mpq::cuda::kSequenceThreads)
pool_sequences(MPQ_PARAMS(mpq::cuda::SequencePoolParams) p) { mpq::cuda::pool_sequence(p); }
