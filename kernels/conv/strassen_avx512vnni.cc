// Strassen's products with vpdpbusd (strassen.h has the algebra): matrix products and 1 x 1
// convolutions of any stride.
//
// A unit is two halves of at most 14 neighbouring pixels. Its sums of codes are made once and serve
// all panels, a panel's sums of weights serve all units. A unit times a panel is seven passes of
// the multiply loop of 14 pixels x 32 channels; accumulators stay in registers from a product to
// the next one where the algebra adds them.
//
//   x --sums--------> [unit][product][64 k][pixel][64]      (u8)
//   w --widen, sums-> [product][k-group][32 channels][4]    (s8)
//   start + products -> sums [2 halves][pixel][64] -> epilogue
//
// The next panel's weights are made meanwhile, a k-group in front of each block of 64 k, which the
// processor does beside the multiplies.

#include "kernels/conv/epilogue_avx512.h"
#include "kernels/conv/rows.h"
#include "kernels/conv/strassen.h"
#include "kernels/conv/tile_avx512vnni.h"

namespace mpq::kernels {
namespace {

constexpr size_t kInputBytes = 768 * 1024;  // sums of codes kept in L2
constexpr uint32_t kUnitPixels = 2 * kMaxPixels;
constexpr size_t kHalfSums = kMaxPixels * kPanelChannels;  // int32 of a half of a unit
constexpr size_t kGroupWeights = 128;                      // bytes of a k-group of 32 channels
constexpr size_t kAhead = 16 * kGroupWeights;              // from L2 to L1
constexpr uint32_t kBits = 4;                              // of weights
constexpr size_t kPackedGroup = kGroupBytes / 8 * kBits;

// The functions below must be inlined, for accumulators to stay in registers.
#define MPQ_INLINE inline __attribute__((always_inline))

// Makes the sums of weights of a panel, k-group by k-group.
struct WeightMaker {
  const uint8_t* packed = nullptr;  // next k-group of the first half of k
  const uint8_t* fetch = nullptr;   // the same of the panel after it, to come to L2
  size_t half = 0;                  // bytes from a k-group to the one of the second half of k
  size_t step = 0;                  // bytes from a product's weights to the next one's
  size_t left = 0;                  // k-groups to make
  int8_t* out = nullptr;

  MPQ_INLINE void make_group() {
    if (left == 0) return;
    _mm_prefetch(reinterpret_cast<const char*>(fetch), _MM_HINT_T1);
    _mm_prefetch(reinterpret_cast<const char*>(fetch + 64), _MM_HINT_T1);
    _mm_prefetch(reinterpret_cast<const char*>(fetch + half), _MM_HINT_T1);
    _mm_prefetch(reinterpret_cast<const char*>(fetch + half + 64), _MM_HINT_T1);
#pragma GCC unroll 2
    for (uint32_t v = 0; v < 2; ++v) {  // vectors v and 2 + v, fields v of the two lines
      const auto widen = [v](const uint8_t* line) {
        return widen_field<kBits>(_mm512_loadu_si512(line), v);
      };
      const __m512i b11 = widen(packed), b12 = widen(packed + 64), b21 = widen(packed + half),
                    b22 = widen(packed + half + 64);
      const __m512i t1 = _mm512_sub_epi8(b12, b11), t2 = _mm512_sub_epi8(b22, t1);
      const __m512i t[kStrassenProducts] = {
          b11, t2, t1, b22, b21, _mm512_sub_epi8(b22, b12), _mm512_sub_epi8(b21, t2)};
#pragma GCC unroll 7
      for (uint32_t i = 0; i < kStrassenProducts; ++i)
        _mm512_store_si512(out + i * step + v * 64, t[i]);
    }
    packed += kPackedGroup;
    fetch += kPackedGroup;
    out += kGroupWeights;
    --left;
  }
};

// A unit times a panel.
struct Operands {
  const uint8_t* x;
  const int8_t* w;
  size_t kblocks, x_step, w_step;  // blocks of 64 k; from a product's operands to the next one's
  WeightMaker* maker;              // of the next panel; makes a k-group in front of each block
  const int32_t* start;            // [2][64], and start[1][0..31] - start[1][32..63]
  int32_t* sums;                   // [2][pixel][64], and two more for U0, U1 - U2 and U2
};

#define MPQ_ADD_INTS(acc, sums) \
  __asm__ volatile("vpaddd %1, %0, %0" : "+v"(acc) : "m"(*reinterpret_cast<const __m512i_u*>(sums)))

// Adds 32 channels of each pixel, which lie `step` apart.
template <int kPixels>
MPQ_INLINE void add_sums(__m512i (&acc)[kPixels][2], const int32_t* sums, size_t step) {
#pragma GCC unroll 14
  for (int p = 0; p < kPixels; ++p, sums += step)
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v) MPQ_ADD_INTS(acc[p][v], sums + 16 * v);
}

template <int kPixels>
MPQ_INLINE void store_sums(__m512i (&acc)[kPixels][2], int32_t* sums) {
#pragma GCC unroll 14
  for (int p = 0; p < kPixels; ++p)
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v) _mm512_storeu_si512(sums + p * kPanelChannels + 16 * v, acc[p][v]);
}

template <int kPixels>
MPQ_INLINE void subtract_from(__m512i (&acc)[kPixels][2], int32_t* sums) {
#pragma GCC unroll 14
  for (int p = 0; p < kPixels; ++p)
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v) {
      int32_t* const at = sums + p * kPanelChannels + 16 * v;
      _mm512_storeu_si512(at, _mm512_sub_epi32(_mm512_loadu_si512(at), acc[p][v]));
    }
}

template <int kPixels>
MPQ_INLINE void add_product(__m512i (&acc)[kPixels][2], const Operands& of, uint32_t product) {
  const uint8_t* x = of.x + product * of.x_step;
  const int8_t* w = of.w + product * of.w_step;
  __asm__ volatile("" : : : "memory");  // else g++ 12 keeps what it has loaded, on the stack
#pragma GCC unroll 1
  for (size_t b = 0; b < of.kblocks; ++b, x += (kPixels - 1) * 64) {
    of.maker->make_group();
    const uint8_t *const end = x + 64, *ahead = x + kPixels * 64;
#pragma GCC unroll 1
    for (; x != end; x += 4, w += kGroupWeights, ahead += 64) {
      _mm_prefetch(reinterpret_cast<const char*>(ahead), _MM_HINT_T0);
      _mm_prefetch(reinterpret_cast<const char*>(w + kAhead), _MM_HINT_T0);
      _mm_prefetch(reinterpret_cast<const char*>(w + kAhead + 64), _MM_HINT_T0);
      const __m512i w0 = _mm512_loadu_si512(w), w1 = _mm512_loadu_si512(w + 64);
#pragma GCC unroll 14
      for (int p = 0; p < kPixels; ++p) {
        __m512i a;
        MPQ_BROADCAST(a, *reinterpret_cast<const UnalignedInt*>(x + p * 64));
        MPQ_DPBUSD(acc[p][0], a, w0);
        MPQ_DPBUSD(acc[p][1], a, w1);
      }
      MPQ_KEEP(w0);
      MPQ_KEEP(w1);
    }
  }
}

// Rows of products that are added without a break. U0 and U1 - U2 lie beside each other, U2 behind.
template <int kPixels>
void multiply_u(const Operands& of) {
  int32_t *const u0 = of.sums + 2 * kHalfSums, *const u1 = u0 + 32, *const u2 = u0 + kHalfSums;
  __m512i acc[kPixels][2] = {};
  add_product(acc, of, 0);
  store_sums(acc, u0);
  add_product(acc, of, 1);
  store_sums(acc, u1);
  add_product(acc, of, 2);
  store_sums(acc, u2);
  subtract_from(acc, u1);
  add_sums(acc, of.start + 32, 0);
  add_product(acc, of, 3);
  store_sums(acc, of.sums + 32);  // C12
}
template <int kPixels>
void multiply_c11(const Operands& of) {
  __m512i acc[kPixels][2] = {};
  add_sums(acc, of.start, 0);
  add_sums(acc, of.sums + 2 * kHalfSums, kPanelChannels);  // U0
  add_product(acc, of, 4);
  store_sums(acc, of.sums);
}
template <int kPixels>
void multiply_c2(const Operands& of) {
  __m512i acc[kPixels][2] = {};
  add_sums(acc, of.start + 96, 0);
  add_sums(acc, of.sums + 3 * kHalfSums, kPanelChannels);  // U2
  add_product(acc, of, 5);
  store_sums(acc, of.sums + kHalfSums + 32);  // C22
  add_sums(acc, of.start + 128, 0);
  add_sums(acc, of.sums + 2 * kHalfSums + 32, kPanelChannels);  // U1 - U2
  add_product(acc, of, 6);
  store_sums(acc, of.sums + kHalfSums);  // C21
}

using RowFn = void (*)(const Operands&);
struct Rows {
  RowFn row[3];
};
template <int kPixels>
constexpr Rows rows_of() {
  return {{multiply_u<kPixels>, multiply_c11<kPixels>, multiply_c2<kPixels>}};
}
constexpr Rows kRowsOf[kMaxPixels + 1] = {{},
                                          rows_of<1>(),
                                          rows_of<2>(),
                                          rows_of<3>(),
                                          rows_of<4>(),
                                          rows_of<5>(),
                                          rows_of<6>(),
                                          rows_of<7>(),
                                          rows_of<8>(),
                                          rows_of<9>(),
                                          rows_of<10>(),
                                          rows_of<11>(),
                                          rows_of<12>(),
                                          rows_of<13>(),
                                          rows_of<14>()};

// Sizes and places in scratch, in bytes.
struct Plan {
  size_t kblocks, groups;  // of a half of k
  size_t weights, unit_input;
  uint32_t chunk_units;  // units whose sums of codes are held together
  size_t input_at, total;

  Plan(const ConvShape& s, uint32_t cb) {
    kblocks = s.c / cb / 2;
    groups = kblocks * 16;
    weights = kStrassenProducts * groups * kGroupWeights;
    unit_input = kStrassenProducts * kblocks * kMaxPixels * 64;
    const size_t fitting = kInputBytes / unit_input,
                 all = size_t{s.n} * s.oh * blocks_of_row(s, kUnitPixels);
    chunk_units = static_cast<uint32_t>(fitting < 1 ? 1 : fitting < all ? fitting : all);
    input_at = 2 * weights;
    total = input_at + chunk_units * unit_input;
  }
};

// Pixels of the first half of a unit; the second may have one less.
uint32_t half_pixels(const Unit& u) { return (u.pixels + 1) / 2; }

// Sums of codes of a unit, 0 for a pixel that does not exist.
void make_input(const ConvArgs& a, const Unit& u, size_t kblocks, uint8_t* out) {
  const ptrdiff_t pixel = static_cast<ptrdiff_t>(a.shape.stride_w) * 64,
                  half = static_cast<ptrdiff_t>(kblocks) * a.x.plane;
  const uint32_t pixels = half_pixels(u);
  const size_t step = kblocks * pixels * 64;
  const uint8_t* plane = input_of(a, u);
  for (size_t b = 0; b < kblocks; ++b, plane += a.x.plane)
    for (uint32_t p = 0; p < pixels; ++p, out += 64) {
      const uint8_t* first = plane + p * pixel;
      const uint8_t* second = first + pixels * pixel;
      const __mmask64 exists = pixels + p < u.pixels ? ~uint64_t{0} : 0;
      const __m512i a11 = _mm512_loadu_si512(first), a12 = _mm512_loadu_si512(first + half),
                    a21 = _mm512_maskz_loadu_epi8(exists, second),
                    a22 = _mm512_maskz_loadu_epi8(exists, second + half);
      const __m512i s1 = _mm512_add_epi8(a21, a22), s2 = _mm512_sub_epi8(s1, a11);
      const __m512i s[kStrassenProducts] = {
          a11, s2, s1, _mm512_sub_epi8(a12, s2), a12, _mm512_sub_epi8(a11, a21), a22};
#pragma GCC unroll 7
      for (uint32_t i = 0; i < kStrassenProducts; ++i)
        _mm512_store_si512(
            out + i * step,
            _mm512_sub_epi8(s[i], _mm512_set1_epi8(static_cast<char>(kStrassenLowest[i]))));
    }
}

size_t packed_panel_bytes(const Plan& plan) {
  return kStrassenHeadBytes + 2 * plan.groups * kPackedGroup;
}

// Units [first, first + count), whose sums of codes are at `input`, times one panel.
void run_panel(const ConvArgs& a, const Plan& plan, uint32_t first, uint32_t count,
               const uint8_t* input, uint32_t panel, const int8_t* w, WeightMaker* maker) {
  const ConvShape& s = a.shape;
  const auto* head = reinterpret_cast<const int32_t*>(static_cast<const uint8_t*>(a.weights) +
                                                      panel * packed_panel_bytes(plan));
  const PanelForm form =
      panel_form(a.epilogue, panel * kPanelChannels, panel_max_sum(2 * plan.groups, kBits));
  alignas(64) int32_t lowered[kPanelChannels], start[2 * kPanelChannels + 32];
  const int32_t* panel_start = form_start(form, start_of(a, panel), lowered);
  for (uint32_t i = 0; i < 2 * kPanelChannels; i += 16)
    _mm512_store_si512(start + i,
                       _mm512_add_epi32(_mm512_loadu_si512(panel_start + i % kPanelChannels),
                                        _mm512_loadu_si512(head + i)));
  for (uint32_t i = 0; i < 32; i += 16)
    _mm512_store_si512(start + 128 + i, _mm512_sub_epi32(_mm512_load_si512(start + 64 + i),
                                                         _mm512_load_si512(start + 96 + i)));

  alignas(64) int32_t sums[4 * kHalfSums];
  Operands of = {.x = input,
                 .w = w,
                 .kblocks = plan.kblocks,
                 .w_step = plan.groups * kGroupWeights,
                 .maker = maker,
                 .start = start,
                 .sums = sums};
  for (uint32_t i = 0; i < count; ++i, of.x += plan.unit_input) {
    const Unit u = unit_at(s, first + i, kUnitPixels);
    const uint32_t pixels = half_pixels(u);
    const EpilogueBlock half[2] = {
        block_at(s, {u.image, u.y, u.x, pixels}, panel),
        block_at(s, {u.image, u.y, u.x + pixels, u.pixels - pixels}, panel)};
    for (const EpilogueBlock& at : half) prefetch_block(a.epilogue, a.y, at);
    of.x_step = plan.kblocks * pixels * 64;
    for (const RowFn multiply : kRowsOf[pixels].row) multiply(of);
    for (uint32_t h = 0; h < 2; ++h)
      run_epilogue(sums + h * kHalfSums, a.epilogue, a.y, a.dense, half[h], form);
  }
}

void run(const ConvArgs& a, const ConvPart& part, const KernelContext& context) {
  const ConvShape& s = a.shape;
  const Plan plan(s, a.x.cb);
  auto* weights = static_cast<int8_t*>(context.scratch);
  auto* input = static_cast<uint8_t*>(context.scratch) + plan.input_at;
  const auto maker_of = [&](uint32_t p) {  // of a panel that exists, or of nothing
    if (p >= part.panel_end) return WeightMaker{};
    const size_t bytes = packed_panel_bytes(plan);
    const uint8_t* packed = static_cast<const uint8_t*>(a.weights) + p * bytes + kStrassenHeadBytes;
    return WeightMaker{.packed = packed,
                       .fetch = p + 1 < part.panel_end ? packed + bytes : packed,
                       .half = plan.groups * kPackedGroup,
                       .step = plan.groups * kGroupWeights,
                       .left = plan.groups,
                       .out = weights + p % 2 * plan.weights};
  };
  for (uint32_t first = part.unit_begin; first < part.unit_end; first += plan.chunk_units) {
    const uint32_t left = part.unit_end - first;
    const uint32_t count = left < plan.chunk_units ? left : plan.chunk_units;
    for (uint32_t i = 0; i < count; ++i)
      make_input(a, unit_at(s, first + i, kUnitPixels), plan.kblocks, input + i * plan.unit_input);
    WeightMaker maker = maker_of(part.panel_begin);
    for (uint32_t p = part.panel_begin; p < part.panel_end; ++p) {
      while (maker.left != 0) maker.make_group();
      maker = maker_of(p + 1);
      run_panel(a, plan, first, count, input, p, weights + p % 2 * plan.weights, &maker);
    }
  }
}

void units(const ConvShape& s, uint32_t* unit_count, uint32_t* panels) {
  *unit_count = s.n * s.oh * blocks_of_row(s, kUnitPixels);
  *panels = panel_count(s);
}

size_t scratch_bytes(const ConvShape& s, uint32_t cb) { return Plan(s, cb).total; }

size_t packed_bytes(const ConvShape& s, uint32_t cb) { return strassen_bytes(s, cb, kBits); }
void pack(const ConvShape& s, uint32_t cb, const int8_t* canonical, void* packed) {
  pack_strassen(s, cb, kBits, canonical, packed);
}

}  // namespace

const ConvKernel conv_u63s4_strassen_avx512vnni = {"conv_u63s4_strassen_avx512vnni",
                                                   kIsaAvx512Vnni,
                                                   Elem::s4,
                                                   kStrassenMaxCode,
                                                   "strassen64_s4_v1",
                                                   strassen_fits,
                                                   packed_bytes,
                                                   pack,
                                                   units,
                                                   scratch_bytes,
                                                   run,
                                                   strassen_cost};

}  // namespace mpq::kernels
