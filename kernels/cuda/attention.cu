// Attention within sequences on codes of 8 bits (kernels/attention/attention.h has the formula).
//
// A block takes 64 queries of one head, a warp 16 of them. Keys come 64 at a time, twice: first for
// the largest score of each query, then again for the probabilities, which are rounded relative to
// it, and their products with the values. Scores never leave registers:
//
//   S = Q K^T   lane 4 g + t has rows g, g + 8 and columns 2 t, 2 t + 1 of each 8 keys, and packs
//   the
//               columns of two such products into the four codes of A that it needs for
//   O = P V     whose k then runs over keys 2 t, 2 t + 1, 8 + 2 t, 9 + 2 t: just what a transposing
//               ldmatrix of V gives, two neighbouring channels at a time, to be parted by permute
//
// Even channels of 16 make one product, odd ones another, so a lane ends with four neighbours.
#include "kernels/cuda/copy.h"
#include "kernels/cuda/epilogue.h"
#include "kernels/cuda/kernels.h"

namespace mpq::cuda {
namespace {

constexpr uint32_t kKeys = 64, kQueries = kAttentionQueries;
constexpr uint32_t kSignBits = 0x80808080U;  // codes minus 128 are the codes with other top bits

template <uint32_t d>
struct AttentionBlock {
  static constexpr uint32_t kTileBytes = 64 * d, kChunks = d / 16, kSteps = d / 32;
  static constexpr uint32_t kCopies = 64 * kChunks / kAttentionThreads;

  const AttentionParams& p;
  uint32_t thread, lane, start, length, head, first_query;
  float score_scale, largest[2];
  uint32_t queries[kSteps][4];
  int32_t scores[kKeys / 8][4], totals[2], sums[kChunks][2][4];

  MPQ_MEMBER explicit AttentionBlock(const AttentionParams& params) : p(params) {
    thread = thread_index();
    lane = thread % 32;
    head = block_y();
    start = load_const(p.starts + block_z());
    length = load_const(p.starts + block_z() + 1) - start;
    first_query = block_x() * kQueries;
    score_scale = load_const(p.score_scale + head);
  }

  // Shared memory: queries, then keys and values of even steps, of odd steps.
  MPQ_MEMBER static uint32_t keys_at(uint32_t step) {
    return kTileBytes + step % 2 * 2 * kTileBytes;
  }
  MPQ_MEMBER static uint32_t values_at(uint32_t step) { return keys_at(step) + kTileBytes; }

  // 64 tokens from `first` on: part 0, 1 or 2 (Q, K, V) of this head.
  MPQ_MEMBER void fetch(uint32_t address, uint32_t part, uint32_t first) {
#pragma unroll
    for (uint32_t i = 0; i < kCopies; ++i) {
      const uint32_t at = thread + i * kAttentionThreads, row = at / kChunks, chunk = at % kChunks;
      const bool exists = first + row < length;
      const uint64_t from =
          static_cast<uint64_t>(exists ? start + first + row : start) * p.qkv.pitch +
          (part * p.heads + head) * d + chunk * 16;
      copy16(address + swizzled<d>(row, chunk), static_cast<const uint8_t*>(p.qkv.data) + from,
             exists ? 16 : 0);
    }
  }

  MPQ_MEMBER void load_queries() {
    const uint32_t row = thread / 32 * 16 + lane % 16;
#pragma unroll
    for (uint32_t step = 0; step < kSteps; ++step) {
      const Words4 w = ldmatrix4(swizzled<d>(row, 2 * step + lane / 16));
#pragma unroll
      for (uint32_t i = 0; i < 4; ++i) queries[step][i] = w.x[i] ^ kSignBits;
    }
  }

  // scores of 16 queries and 64 keys at `keys`.
  MPQ_MEMBER void multiply_keys(uint32_t keys) {
#pragma unroll
    for (auto& tile : scores) tile[0] = tile[1] = tile[2] = tile[3] = 0;
#pragma unroll
    for (uint32_t pair = 0; pair < kKeys / 16; ++pair)
#pragma unroll
      for (uint32_t step = 0; step < kSteps; ++step) {
        const uint32_t row = pair * 16 + lane % 8 + lane / 16 * 8;
        const Words4 w = ldmatrix4(keys + swizzled<d>(row, 2 * step + lane / 8 % 2));
        const uint32_t b[2][2] = {{w.x[0] ^ kSignBits, w.x[1] ^ kSignBits},
                                  {w.x[2] ^ kSignBits, w.x[3] ^ kSignBits}};
#pragma unroll
        for (uint32_t i = 0; i < 2; ++i) mma_s8s8(scores[2 * pair + i], queries[step], b[i]);
      }
  }

  MPQ_MEMBER uint32_t query(uint32_t half) const {
    return first_query + thread / 32 * 16 + lane / 4 + 8 * half;
  }
  MPQ_MEMBER float score(uint32_t tile, uint32_t i, uint32_t key) const {
    const uint32_t q = query(i / 2);
    float bias = 0.0F;
    if (p.relative_bias != nullptr && q < length)
      bias = load_const(p.relative_bias + static_cast<uint64_t>(head) * (2 * p.max_length - 1) +
                        (p.max_length - 1 + key - q));
    return fma(to_float(scores[tile][i]), score_scale, bias);
  }

  // Calls each(tile, i, key) for this lane's scores, keys that do not exist included.
  template <typename Each>
  MPQ_MEMBER void for_each_score(uint32_t first_key, Each each) {
#pragma unroll
    for (uint32_t tile = 0; tile < kKeys / 8; ++tile)
#pragma unroll
      for (uint32_t i = 0; i < 4; ++i) each(tile, i, first_key + tile * 8 + lane % 4 * 2 + i % 2);
  }

  MPQ_MEMBER void find_largest(uint32_t first_key) {
    for_each_score(first_key, [&](uint32_t tile, uint32_t i, uint32_t key) {
      if (key >= length) return;
      const float s = score(tile, i, key);
      largest[i / 2] = s > largest[i / 2] ? s : largest[i / 2];
    });
  }

  // scores become probabilities in parts of 255 of the largest.
  MPQ_MEMBER void find_probabilities(uint32_t first_key) {
    for_each_score(first_key, [&](uint32_t tile, uint32_t i, uint32_t key) {
      int32_t part = 0;
      if (key < length)
        part = round_to_int(
            kernels::parts_of_255<CudaLanes>(sub(score(tile, i, key), largest[i / 2])));
      scores[tile][i] = part;
      totals[i / 2] += part;
    });
  }

  MPQ_MEMBER void multiply_values(uint32_t values) {
#pragma unroll
    for (uint32_t step = 0; step < kKeys / 32; ++step) {
      uint32_t a[4];
#pragma unroll
      for (uint32_t i = 0; i < 4; ++i) {
        const auto& low = scores[4 * step + i / 2 * 2];
        const auto& high = scores[4 * step + i / 2 * 2 + 1];
        const uint32_t row = i % 2 * 2;
        a[i] = static_cast<uint32_t>(low[row] | low[row + 1] << 8 | high[row] << 16 |
                                     high[row + 1] << 24);
      }
#pragma unroll
      for (uint32_t chunk = 0; chunk < kChunks; ++chunk) {
        const Words4 w = ldmatrix4_transposed(values + swizzled<d>(step * 32 + lane, chunk));
        const uint32_t even[2] = {permute_bytes(w.x[0], w.x[1], 0x6420) ^ kSignBits,
                                  permute_bytes(w.x[2], w.x[3], 0x6420) ^ kSignBits};
        const uint32_t odd[2] = {permute_bytes(w.x[0], w.x[1], 0x7531) ^ kSignBits,
                                 permute_bytes(w.x[2], w.x[3], 0x7531) ^ kSignBits};
        mma_u8s8(sums[chunk][0], a, even);
        mma_u8s8(sums[chunk][1], a, odd);
      }
    }
  }

  MPQ_MEMBER void store_rows() {
#pragma unroll
    for (uint32_t half = 0; half < 2; ++half) {
      uint32_t total = static_cast<uint32_t>(totals[half]);
      total += shuffle_xor(total, 1);
      total += shuffle_xor(total, 2);
      const float scale =
          div(load_const(p.value_scale + head), to_float(static_cast<int32_t>(total)));
      if (query(half) >= length) continue;
#pragma unroll
      for (uint32_t chunk = 0; chunk < kChunks; ++chunk) {
        uint32_t codes[4];
#pragma unroll
        for (uint32_t i = 0; i < 4; ++i)
          codes[i] = round_clamp(
              fma(to_float(sums[chunk][i % 2][2 * half + i / 2]), scale, p.out_bias), p.lo, p.hi);
        store_four(p.y, start + query(half), head * d + chunk * 16 + lane % 4 * 4, codes);
      }
    }
  }

  MPQ_MEMBER void run() {
    if (first_query >= length) return;  // of the whole block
    const uint32_t tiles = (length + kKeys - 1) / kKeys;
    fetch(0, 0, first_query);
    fetch(keys_at(0), 1, 0);
    largest[0] = largest[1] = float_of(0xFF800000U);  // below all
    totals[0] = totals[1] = 0;
#pragma unroll
    for (auto& pair : sums)
#pragma unroll
      for (auto& tile : pair) tile[0] = tile[1] = tile[2] = tile[3] = 0;
    for (uint32_t step = 0; step < 2 * tiles; ++step) {
      copies_done();
      bar_sync();  // everybody's copies are there, and nobody reads what is overwritten next
      if (step == 0) load_queries();
      if (step + 1 < 2 * tiles) {
        const uint32_t next = step + 1 < tiles ? step + 1 : step + 1 - tiles;
        fetch(keys_at(step + 1), 1, next * kKeys);
        if (step + 1 >= tiles) fetch(values_at(step + 1), 2, next * kKeys);
      }
      multiply_keys(keys_at(step));
      if (step < tiles) {
        find_largest(step * kKeys);
        if (step + 1 == tiles) share_largest();
      } else {
        find_probabilities((step - tiles) * kKeys);
        multiply_values(values_at(step));
      }
    }
    store_rows();
  }

  // Four lanes have parts of a row.
  MPQ_MEMBER void share_largest() {
#pragma unroll
    for (float& value : largest)
#pragma unroll
      for (uint32_t mask = 1; mask <= 2; mask *= 2) {
        const float other = float_of(shuffle_xor(bits_of(value), mask));
        value = other > value ? other : value;
      }
  }
};

}  // namespace
}  // namespace mpq::cuda

MPQ_KERNEL(mpq::cuda::kAttentionThreads) attention_64(MPQ_PARAMS(mpq::cuda::AttentionParams) p) {
  mpq::cuda::AttentionBlock<64>(p).run();
}
MPQ_KERNEL(mpq::cuda::kAttentionThreads) attention_32(MPQ_PARAMS(mpq::cuda::AttentionParams) p) {
  mpq::cuda::AttentionBlock<32>(p).run();
}
