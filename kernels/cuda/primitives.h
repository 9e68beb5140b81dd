// All that the CUDA kernels know of a GPU: one call an instruction. The kernels hold no other
// inline PTX, no __shared__ variable and no intrinsic, so the same source runs on a GPU
// (primitives_ptx.h), and under a C++ compiler on the emulator of tests/cuda, which defines what is
// declared here.
//
// Lanes are named as in the PTX ISA: g = lane / 4, t = lane % 4; element 0 of a register is its
// least significant bits. Calls marked (warp) are made by all 32 lanes of a warp together, those
// marked (block) by all threads of the block.
//
// MPQ_CUDA_ARCH: 75, 80, 86, 89, 90 and so on; what a kernel may use depends on it.
#pragma once

#include <cstdint>

#if defined(__CUDA_ARCH__)
#define MPQ_CUDA_ARCH (__CUDA_ARCH__ / 10)
#elif !defined(MPQ_CUDA_ARCH)
#define MPQ_CUDA_ARCH 80
#endif

namespace mpq::cuda {

struct alignas(8) Words2 {
  uint32_t x[2];
};
struct alignas(16) Words4 {
  uint32_t x[4];
};

}  // namespace mpq::cuda

#ifdef __CUDACC__
#include "kernels/cuda/primitives_ptx.h"
#else

#define MPQ_KERNEL(threads) static void
#define MPQ_MEMBER inline
#define MPQ_DEVICE static inline
#define MPQ_PARAMS(type) const type &

namespace mpq::cuda {

// Where a primitive is called from: the emulator names it, and plants faults there.
#define MPQ_SITE const char *file = __builtin_FILE(), int line = __builtin_LINE()

// Where a thread is.
uint32_t thread_index();
uint32_t block_x();
uint32_t block_y();
uint32_t block_z();
uint32_t grid_x();

// (block) Everything that the block's threads did to memory before is seen by all of them after.
void bar_sync(MPQ_SITE);

// Shared memory, by byte: address 0 is the first byte of the block's.
uint32_t shared_load(uint32_t address, MPQ_SITE);
Words4 shared_load4(uint32_t address, MPQ_SITE);
void shared_store(uint32_t address, uint32_t value, MPQ_SITE);
void shared_store4(uint32_t address, const Words4& value, MPQ_SITE);

// Global memory, aligned to the size of T. load_const: of what nobody writes while the kernel runs.
// load_shared_by_grid: of what other blocks may have written before a fence.
template <typename T>
T load_const(const T* p, MPQ_SITE);
template <typename T>
T load(const T* p, MPQ_SITE);
// Of a constant table of the program's.
float load_table(const float* p);
template <typename T>
T load_shared_by_grid(const T* p, MPQ_SITE);
template <typename T>
void store(T* p, T value, MPQ_SITE);
// *p += value, atomically; may be seen late, until a fence.
void add_to(int32_t* p, int32_t value, MPQ_SITE);
// Adds 1 to *p atomically; what it was.
uint32_t take_ticket(uint32_t* p, MPQ_SITE);
// What this thread wrote before is seen by the grid before what it writes after.
void fence(MPQ_SITE);

// sm_80. Copies 16 bytes, of which those from `bytes` (0 or 16) on are zero instead, some time
// until the copy's group has been waited for. Addresses are multiples of 16.
void cp_async16(uint32_t address, const void* from, uint32_t bytes, MPQ_SITE);
// Closes the thread's group of copies, an empty one too.
void cp_commit(MPQ_SITE);
// Returns when at most `pending` of the thread's newest groups are under way. The copies are then
// seen by this thread only: a barrier must follow before others read.
template <int pending>
void cp_wait(MPQ_SITE);

// (warp) Matrix i of 8 rows of 16 bytes, whose row r is at the address of lane 8 i + r: lane L gets
// in x[i] the 4 bytes at 4 t of row g. All lanes hold valid addresses.
Words4 ldmatrix4(uint32_t address, MPQ_SITE);
// (warp) Matrices 0 and 1 only.
Words2 ldmatrix2(uint32_t address, MPQ_SITE);
// (warp) As ldmatrix4 with each matrix of 8 x 8 16-bit elements transposed: lane L gets elements
// (2 t, g) and (2 t + 1, g).
Words4 ldmatrix4_transposed(uint32_t address, MPQ_SITE);

// (warp) c += A B over 16 x 8 x 64 codes u4 x s4, not on sm_90 and later:
//   A: x[i] row g + 8 (i & 1), k = 8 t .. 8 t + 7 + 32 (i >> 1)    B: n = g, k = 8 t .. + 32 i
//   c: (g, 2 t), (g, 2 t + 1), (g + 8, 2 t), (g + 8, 2 t + 1)
void mma_u4s4(int32_t (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], MPQ_SITE);
// (warp) The same over 16 x 8 x 32 codes u8 x s8, and s8 x s8:
//   A: x[i] row g + 8 (i & 1), k = 4 t .. 4 t + 3 + 16 (i >> 1)    B: n = g, k = 4 t .. + 16 i
void mma_u8s8(int32_t (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], MPQ_SITE);
void mma_s8s8(int32_t (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], MPQ_SITE);

// (warp) x of the lane whose number differs in the bits of `mask`; of the lane `delta` further in
// the same 16 lanes (its own beyond them); of lane `lane` of the same 16 lanes.
uint32_t shuffle_xor(uint32_t x, uint32_t mask, MPQ_SITE);
uint32_t shuffle_down16(uint32_t x, uint32_t delta, MPQ_SITE);
uint32_t shuffle_from16(uint32_t x, uint32_t lane, MPQ_SITE);

// Bytes of b:a by the four selectors of s, lowest first.
uint32_t permute_bytes(uint32_t a, uint32_t b, uint32_t s);

// Binary32, rounded to nearest even, denormals kept, nothing fused but fma.
float fma(float a, float b, float c);
float add(float a, float b);
float sub(float a, float b);
float mul(float a, float b);
float div(float a, float b);
float sqrt(float a);
float max_number(float a, float b);  // the larger; beside NaN, the other
float min_number(float a, float b);
float to_float(int32_t x);
int32_t round_to_int(float x);  // |x| < 2^31, half to even
float round_half_even(float x);
uint32_t bits_of(float x);
float float_of(uint32_t x);

}  // namespace mpq::cuda

#endif
