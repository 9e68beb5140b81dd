// Convolution and matrix product on tensor cores (conv/conv.h has the formula): C = A B with
// m = pixels of the output, n = output channels, k = (kernel row, kernel column, channel).
//
// A block computes a Tile. Through a ring of stages in shared memory come kDepth codes of each of
// its pixels, gathered by every thread 16 bytes at a time (which never straddle a tap: a pixel is a
// multiple of 16 bytes), and the weights of its channels, which lie in memory as they will in
// shared memory. Then
//
//   A: ldmatrix from swizzled rows, split into even and odd codes where the product wants wider
//   ones B: 16 bytes a lane, one load for 4 x 8 channels (2-bit weights) to 1 x 8 (8-bit) sums stay
//   in registers and are requantised there (epilogue.h)
//
// On sm_75 a stage passes through registers during the products of the one before.
#pragma once

#include "kernels/cuda/epilogue.h"
#include "kernels/cuda/params.h"
#include "kernels/cuda/primitives.h"
#include "kernels/cuda/tile.h"

namespace mpq::cuda {
namespace {

// One of a thread's rows of A: the pixel under tap (0, 0), which may lie outside the image.
struct PixelOrigin {
  int32_t offset;  // bytes
  int32_t y, x;
};

MPQ_DEVICE PixelOrigin pixel_origin(const ConvParams& p, uint32_t row) {
  if (row >= p.n * p.oh * p.ow) return {0, -(1 << 30), 0};  // no tap of it is inside
  if (p.is_plain()) return {static_cast<int32_t>(row * p.x_pitch), 0, 0};
  const uint32_t image = row / (p.oh * p.ow), pixel = row % (p.oh * p.ow);
  const int32_t y = static_cast<int32_t>(pixel / p.ow * p.stride_h) - p.pad_top;
  const int32_t x = static_cast<int32_t>(pixel % p.ow * p.stride_w) - p.pad_left;
  const int32_t first = static_cast<int32_t>(image * p.h) + y;
  return {(first * static_cast<int32_t>(p.w) + x) * static_cast<int32_t>(p.x_pitch), y, x};
}

template <uint32_t a_bits, uint32_t w_bits, typename T>
struct ConvBlock {
  using S = Stage<a_bits, w_bits, T>;
  static constexpr uint32_t kStages = S::stages(MPQ_CUDA_ARCH);
  static constexpr uint32_t kMath = math_bits(a_bits, w_bits, MPQ_CUDA_ARCH);
  static constexpr uint32_t kProducts = kMath / 4;  // of one step of 64 codes
  static constexpr uint32_t kAChunks = S::kABytes / 16, kBChunks = S::kBBytes / 16;
  static constexpr uint32_t kACopies = (kAChunks + T::kThreads - 1) / T::kThreads;
  static constexpr uint32_t kBCopies = (kBChunks + T::kThreads - 1) / T::kThreads;
  static constexpr uint32_t kRowsApart = T::kThreads / S::kRowChunks;
  static constexpr uint32_t kStepChunks = w_bits / 2 * 32;  // weights of 32 channels, 64 k

  const ConvParams& p;
  uint32_t thread, lane, first_row, first_block;  // of 32 channels
  uint32_t warp_row, warp_block;                  // in the tile
  // This thread's column of A in the next stage to be copied: chunk `chunk` of tap (r, s).
  uint32_t stage, end_stage, chunk, r, s;
  PixelOrigin origin[kACopies];
#if MPQ_CUDA_ARCH < 80
  Words4 held[kACopies + kBCopies];
#endif
  int32_t sums[T::kRows16][4][4];  // 16 rows x 8 columns each, as the product leaves them

  MPQ_MEMBER explicit ConvBlock(const ConvParams& params) : p(params) {
    thread = thread_index();
    lane = thread % 32;
    first_row = block_x() * T::kM;
    first_block = block_y() * (T::kN / 32);
    warp_row = thread / 32 % T::kWarpsM * (16 * T::kRows16);
    warp_block = thread / 32 / T::kWarpsM;
    const uint32_t stages = (p.k_steps + S::kSteps - 1) / S::kSteps;
    const uint32_t part = (stages + p.splits - 1) / p.splits;
    stage = block_z() * part;
    end_stage = stage + part < stages ? stage + part : stages;
#pragma unroll
    for (uint32_t i = 0; i < kACopies; ++i) origin[i] = pixel_origin(p, first_row + a_row(i));
    const uint32_t k_chunk = stage * S::kRowChunks + a_column(), chunks = p.x_pitch / 16;
    chunk = k_chunk;
    r = s = 0;
    if (k_chunk >= chunks) {
      chunk = k_chunk % chunks;
      r = k_chunk / chunks / p.s;
      s = k_chunk / chunks % p.s;
    }
    for_each_sum([](int32_t& sum, uint32_t) { sum = 0; });
  }

  MPQ_MEMBER uint32_t a_column() const { return thread % S::kRowChunks; }
  MPQ_MEMBER uint32_t a_row(uint32_t copy) const {
    return thread / S::kRowChunks + copy * kRowsApart;
  }
  MPQ_MEMBER bool a_exists(uint32_t copy) const {
    return kAChunks % T::kThreads == 0 || thread + copy * T::kThreads < kAChunks;
  }
  MPQ_MEMBER bool b_exists(uint32_t copy) const {
    return kBChunks % T::kThreads == 0 || thread + copy * T::kThreads < kBChunks;
  }
  MPQ_MEMBER uint32_t a_address(uint32_t buffer, uint32_t copy) const {
    return buffer * S::kBytes + swizzled<S::kRowBytes>(a_row(copy), a_column());
  }
  MPQ_MEMBER uint32_t b_address(uint32_t buffer, uint32_t copy) const {
    return buffer * S::kBytes + S::kABytes + (thread + copy * T::kThreads) * 16;
  }

  // Starts to copy `stage` into `buffer` and moves on to the next one.
  MPQ_MEMBER void fetch(uint32_t buffer) {
    const int32_t dy = static_cast<int32_t>(r * p.dilation_h);
    const int32_t dx = static_cast<int32_t>(s * p.dilation_w);
    const int32_t moved = (dy * static_cast<int32_t>(p.w) + dx) * static_cast<int32_t>(p.x_pitch) +
                          static_cast<int32_t>(chunk * 16);
#pragma unroll
    for (uint32_t i = 0; i < kACopies; ++i) {
      const PixelOrigin& o = origin[i];
      const bool inside =
          r < p.r && static_cast<uint32_t>(o.y + dy) < p.h && static_cast<uint32_t>(o.x + dx) < p.w;
      const void* from = inside ? static_cast<const uint8_t*>(p.x) + (o.offset + moved) : p.padding;
      if (a_exists(i)) copy(i, a_address(buffer, i), from, inside ? 16 : p.padding_bytes);
    }
#pragma unroll
    for (uint32_t i = 0; i < kBCopies; ++i) {
      const uint32_t at = thread + i * T::kThreads;
      const uint32_t block = first_block + at / (S::kSteps * kStepChunks);
      const uint32_t within = at % (S::kSteps * kStepChunks), step = stage * S::kSteps;
      const bool inside = block * 32 < p.o && step + within / kStepChunks < p.k_steps;
      const uint64_t from =
          (static_cast<uint64_t>(block) * p.k_steps + step) * kStepChunks + within;
      if (b_exists(i))
        copy(kACopies + i, b_address(buffer, i),
             static_cast<const Words4*>(p.weights) + (inside ? from : 0), inside ? 16 : 0);
    }
    ++stage;
    chunk += S::kRowChunks;
    for (; chunk >= p.x_pitch / 16; chunk -= p.x_pitch / 16)
      if (++s == p.s) {
        s = 0;
        ++r;
      }
  }

#if MPQ_CUDA_ARCH >= 80
  MPQ_MEMBER void copy(uint32_t, uint32_t address, const void* from, uint32_t bytes) {
    cp_async16(address, from, bytes);
  }
  MPQ_MEMBER void land(uint32_t) {}
#else
  MPQ_MEMBER void copy(uint32_t i, uint32_t, const void* from, uint32_t bytes) {
    held[i] = bytes != 0 ? load_const(static_cast<const Words4*>(from)) : Words4{};
  }
  // The end of the copy that fetch(buffer) started.
  MPQ_MEMBER void land(uint32_t buffer) {
#pragma unroll
    for (uint32_t i = 0; i < kACopies; ++i)
      if (a_exists(i)) shared_store4(a_address(buffer, i), held[i]);
#pragma unroll
    for (uint32_t i = 0; i < kBCopies; ++i)
      if (b_exists(i)) shared_store4(b_address(buffer, i), held[kACopies + i]);
  }
#endif

  // The codes of 16 rows and one step of 64 k, as kProducts products want them.
  MPQ_MEMBER void load_a(uint32_t a, uint32_t row, uint32_t step,
                         uint32_t (&to)[kProducts][4]) const {
    row += lane % 16;
    if constexpr (a_bits == 8) {
#pragma unroll
      for (uint32_t half = 0; half < 2; ++half) {
        const Words4 w =
            ldmatrix4(a + swizzled<S::kRowBytes>(row, 4 * step + 2 * half + lane / 16));
#pragma unroll
        for (uint32_t i = 0; i < 4; ++i) to[half][i] = w.x[i];
      }
    } else if constexpr (a_bits == 4) {
      const Words4 w = ldmatrix4(a + swizzled<S::kRowBytes>(row, 2 * step + lane / 16));
#pragma unroll
      for (uint32_t i = 0; i < 4; ++i)
        if constexpr (kMath == 4) {
          to[0][i] = w.x[i];
        } else {
          to[0][i] = w.x[i] & 0x0F0F0F0FU;
          to[1][i] = w.x[i] >> 4 & 0x0F0F0F0FU;
        }
    } else {
      const Words2 w = ldmatrix2(a + swizzled<S::kRowBytes>(row, step));
#pragma unroll
      for (uint32_t i = 0; i < 4; ++i)
        if constexpr (kMath == 4) {
          to[0][i] = w.x[i % 2] >> (i / 2 * 2) & 0x33333333U;
        } else {
#pragma unroll
          for (uint32_t half = 0; half < 2; ++half)
            to[half][i] = w.x[i % 2] >> (4 * half + i / 2 * 2) & 0x03030303U;
        }
    }
  }

  // The weights of 32 channels and one step.
  MPQ_MEMBER void load_b(uint32_t b, uint32_t step, uint32_t (&to)[4][kProducts][2]) const {
    uint32_t words[2 * w_bits];
#pragma unroll
    for (uint32_t piece = 0; piece < w_bits / 2; ++piece) {
      const Words4 w = shared_load4(b + (step * kStepChunks + piece * 32 + lane) * 16);
#pragma unroll
      for (uint32_t i = 0; i < 4; ++i) words[piece * 4 + i] = w.x[i];
    }
#pragma unroll
    for (uint32_t tile = 0; tile < 4; ++tile)
#pragma unroll
      for (uint32_t half = 0; half < kProducts; ++half)
#pragma unroll
        for (uint32_t j = 0; j < 2; ++j) to[tile][half][j] = widened(words, tile, half, j);
  }
  // Into the top bits of wider fields (tile.h).
  MPQ_MEMBER static uint32_t widened(const uint32_t (&words)[2 * w_bits], uint32_t tile,
                                     uint32_t half, uint32_t j) {
    if constexpr (w_bits == 8) return words[tile * 4 + 2 * half + j];
    if constexpr (w_bits == 4 && kMath == 4) return words[tile * 2 + j];
    if constexpr (w_bits == 4) return words[tile * 2 + j] << (4 - 4 * half) & 0xF0F0F0F0U;
    if constexpr (kMath == 4) return words[tile] << (2 - 2 * j) & 0xCCCCCCCCU;
    return words[tile] << (6 - 2 * (2 * half + j)) & 0xC0C0C0C0U;
  }

  MPQ_MEMBER void multiply(uint32_t buffer) {
    const uint32_t a = buffer * S::kBytes;
    const uint32_t b = a + S::kABytes + warp_block * (S::kSteps * kStepChunks * 16);
#pragma unroll
    for (uint32_t step = 0; step < S::kSteps; ++step) {
      uint32_t weights[4][kProducts][2];
      load_b(b, step, weights);
#pragma unroll
      for (uint32_t i = 0; i < T::kRows16; ++i) {
        uint32_t codes[kProducts][4];
        load_a(a, warp_row + 16 * i, step, codes);
#pragma unroll
        for (uint32_t half = 0; half < kProducts; ++half)
#pragma unroll
          for (uint32_t tile = 0; tile < 4; ++tile)
            if constexpr (kMath == 4)
              mma_u4s4(sums[i][tile], codes[half], weights[tile][half]);
            else
              mma_u8s8(sums[i][tile], codes[half], weights[tile][half]);
      }
    }
  }

  MPQ_MEMBER void accumulate() {
    uint32_t left = end_stage > stage ? end_stage - stage : 0;
#if MPQ_CUDA_ARCH >= 80
#pragma unroll
    for (uint32_t i = 0; i + 1 < kStages; ++i) {
      if (stage < end_stage) fetch(i);
      cp_commit();
    }
    uint32_t reading = 0, writing = kStages - 1;
    for (; left > 0; --left) {
      cp_wait<kStages - 2>();
      bar_sync();  // everybody's copies are there, and nobody reads what is overwritten next
      if (stage < end_stage) fetch(writing);
      cp_commit();
      multiply(reading);
      reading = reading + 1 < kStages ? reading + 1 : 0;
      writing = writing + 1 < kStages ? writing + 1 : 0;
    }
#else
    if (left > 0) {
      fetch(0);
      land(0);
    }
    for (uint32_t reading = 0; left > 0; --left, reading ^= 1) {
      bar_sync();
      if (left > 1) fetch(reading ^ 1);
      multiply(reading);
      if (left > 1) land(reading ^ 1);
    }
#endif
    constexpr uint32_t kShift = weight_shift(w_bits, kMath);
    for_each_sum([](int32_t& sum, uint32_t) { sum >>= kShift; });
  }

  template <typename Each>
  MPQ_MEMBER void for_each_sum(Each each) {
#pragma unroll
    for (uint32_t i = 0; i < T::kRows16; ++i)
#pragma unroll
      for (uint32_t tile = 0; tile < 4; ++tile)
#pragma unroll
        for (uint32_t j = 0; j < 4; ++j) each(sums[i][tile][j], (i * 4 + tile) * 4 + j);
  }

  // Adds up the parts of k. True in the last block of the tile, which then has the whole sums.
  MPQ_MEMBER bool join() {
    const uint32_t tile = block_y() * grid_x() + block_x();
    int32_t* partial = p.partial + static_cast<uint64_t>(tile) * (T::kSums * T::kThreads) + thread;
    for_each_sum([=](int32_t& sum, uint32_t i) { add_to(partial + i * T::kThreads, sum); });
    fence();
    bar_sync();
    if (thread == 0) shared_store(0, take_ticket(p.tickets + tile));
    bar_sync();
    if (shared_load(0) + 1 < p.splits) return false;
    fence();
    for_each_sum([=](int32_t& sum, uint32_t i) {
      sum = load_shared_by_grid(partial + i * T::kThreads);
      store(partial + i * T::kThreads, 0);
    });
    if (thread == 0) store(p.tickets + tile, 0U);
    return true;
  }

  template <bool has_activation>
  MPQ_MEMBER void finish_rows() {
    const uint32_t channel = (first_block + warp_block) * 32 + lane % 4 * 8;
    if (channel - lane % 4 * 8 >= p.o) return;
    const EightChannels channels = eight_channels(p.epilogue, channel);
#pragma unroll
    for (uint32_t i = 0; i < 2 * T::kRows16; ++i) {
      const uint32_t row = first_row + warp_row + 8 * i + lane / 4;
      int32_t acc[8];
#pragma unroll
      for (uint32_t j = 0; j < 8; ++j) acc[j] = sums[i / 2][j / 2][i % 2 * 2 + j % 2];
      if (row < p.n * p.oh * p.ow)
        finish<has_activation>(p.epilogue, channels, row, channel, p.o, acc);
    }
  }
};

template <uint32_t a_bits, uint32_t w_bits, typename T, bool has_activation>
MPQ_DEVICE void conv(const ConvParams& p) {
  ConvBlock<a_bits, w_bits, T> block(p);
  block.accumulate();
  if (p.splits == 1 || block.join()) block.template finish_rows<has_activation>();
}

}  // namespace
}  // namespace mpq::cuda
