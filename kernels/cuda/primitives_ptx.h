// The primitives on a GPU: see primitives.h for what each does. PTX ISA 9.0; which instructions are
// native differs by architecture (README.md).
#pragma once

// Up to 128 registers a thread for small blocks: left alone, ptxas spills one to have more of them.
// Large ones are left alone (0).
#define MPQ_KERNEL(threads) \
  extern "C" __global__ void __launch_bounds__(threads, (threads) <= 128 ? 4 : 0)
#define MPQ_MEMBER __device__ __forceinline__
#define MPQ_DEVICE static __device__ __forceinline__
#define MPQ_PARAMS(type) const __grid_constant__ type

namespace mpq::cuda {

MPQ_DEVICE uint32_t thread_index() { return threadIdx.x; }
MPQ_DEVICE uint32_t block_x() { return blockIdx.x; }
MPQ_DEVICE uint32_t block_y() { return blockIdx.y; }
MPQ_DEVICE uint32_t block_z() { return blockIdx.z; }
MPQ_DEVICE uint32_t grid_x() { return gridDim.x; }

MPQ_DEVICE void bar_sync() { asm volatile("bar.sync 0;" ::: "memory"); }

extern __shared__ Words4 shared_words[];
MPQ_DEVICE uint32_t in_shared(uint32_t address) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(shared_words)) + address;
}
MPQ_DEVICE uint32_t shared_load(uint32_t address) {
  uint32_t x;
  asm volatile("ld.shared.u32 %0, [%1];" : "=r"(x) : "r"(in_shared(address)) : "memory");
  return x;
}
MPQ_DEVICE Words4 shared_load4(uint32_t address) {
  Words4 v;
  asm volatile("ld.shared.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(v.x[0]), "=r"(v.x[1]), "=r"(v.x[2]), "=r"(v.x[3])
               : "r"(in_shared(address))
               : "memory");
  return v;
}
MPQ_DEVICE void shared_store(uint32_t address, uint32_t value) {
  asm volatile("st.shared.u32 [%0], %1;" ::"r"(in_shared(address)), "r"(value) : "memory");
}
MPQ_DEVICE void shared_store4(uint32_t address, const Words4& v) {
  asm volatile("st.shared.v4.u32 [%0], {%1,%2,%3,%4};" ::"r"(in_shared(address)), "r"(v.x[0]),
               "r"(v.x[1]), "r"(v.x[2]), "r"(v.x[3])
               : "memory");
}

MPQ_DEVICE uint32_t load_const(const uint32_t* p) { return __ldg(p); }
MPQ_DEVICE int32_t load_const(const int32_t* p) { return __ldg(p); }
MPQ_DEVICE uint16_t load_const(const uint16_t* p) { return __ldg(p); }
MPQ_DEVICE uint8_t load_const(const uint8_t* p) { return __ldg(p); }
MPQ_DEVICE int8_t load_const(const int8_t* p) { return __ldg(reinterpret_cast<const char*>(p)); }
MPQ_DEVICE float load_const(const float* p) { return __ldg(p); }
MPQ_DEVICE Words2 load_const(const Words2* p) {
  const uint2 v = __ldg(reinterpret_cast<const uint2*>(p));
  return {{v.x, v.y}};
}
MPQ_DEVICE Words4 load_const(const Words4* p) {
  const uint4 v = __ldg(reinterpret_cast<const uint4*>(p));
  return {{v.x, v.y, v.z, v.w}};
}
MPQ_DEVICE float load_table(const float* p) { return __ldg(p); }
template <typename T>
MPQ_DEVICE T load(const T* p) {
  return *p;
}
MPQ_DEVICE int32_t load_shared_by_grid(const int32_t* p) { return __ldcg(p); }
template <typename T>
MPQ_DEVICE void store(T* p, T value) {
  *p = value;
}
MPQ_DEVICE void add_to(int32_t* p, int32_t value) {
  asm volatile("red.global.add.s32 [%0], %1;" ::"l"(__cvta_generic_to_global(p)), "r"(value)
               : "memory");
}
MPQ_DEVICE uint32_t take_ticket(uint32_t* p) {
  uint32_t was;
  asm volatile("atom.global.add.u32 %0, [%1], 1;"
               : "=r"(was)
               : "l"(__cvta_generic_to_global(p))
               : "memory");
  return was;
}
MPQ_DEVICE void fence() { asm volatile("fence.acq_rel.gpu;" ::: "memory"); }

#if MPQ_CUDA_ARCH >= 80
MPQ_DEVICE void cp_async16(uint32_t address, const void* from, uint32_t bytes) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(in_shared(address)),
               "l"(__cvta_generic_to_global(from)), "r"(bytes)
               : "memory");
}
MPQ_DEVICE void cp_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int pending>
MPQ_DEVICE void cp_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}
#endif

MPQ_DEVICE Words4 ldmatrix4(uint32_t address) {
  Words4 v;
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(v.x[0]), "=r"(v.x[1]), "=r"(v.x[2]), "=r"(v.x[3])
               : "r"(in_shared(address))
               : "memory");
  return v;
}
MPQ_DEVICE Words2 ldmatrix2(uint32_t address) {
  Words2 v;
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
               : "=r"(v.x[0]), "=r"(v.x[1])
               : "r"(in_shared(address))
               : "memory");
  return v;
}
MPQ_DEVICE Words4 ldmatrix4_transposed(uint32_t address) {
  Words4 v;
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(v.x[0]), "=r"(v.x[1]), "=r"(v.x[2]), "=r"(v.x[3])
               : "r"(in_shared(address))
               : "memory");
  return v;
}

// Turing multiplies 8 x 8 x 128 bits: four of them make a product of Ampere, in the same registers.
#if MPQ_CUDA_ARCH >= 80
#define MPQ_MMA(name, shape, small, types)                                             \
  MPQ_DEVICE void name(int32_t(&c)[4], const uint32_t(&a)[4], const uint32_t(&b)[2]) { \
    asm volatile("mma.sync.aligned." shape ".row.col.s32." types                       \
                 ".s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"          \
                 : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])                      \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));  \
  }
#else
#define MPQ_MMA_SMALL(small, types, c0, c1, a, b)              \
  asm volatile("mma.sync.aligned." small ".row.col.s32." types \
               ".s32 {%0,%1}, {%2}, {%3}, {%0,%1};"            \
               : "+r"(c0), "+r"(c1)                            \
               : "r"(a), "r"(b));
#define MPQ_MMA(name, shape, small, types)                                             \
  MPQ_DEVICE void name(int32_t(&c)[4], const uint32_t(&a)[4], const uint32_t(&b)[2]) { \
    MPQ_MMA_SMALL(small, types, c[0], c[1], a[0], b[0])                                \
    MPQ_MMA_SMALL(small, types, c[2], c[3], a[1], b[0])                                \
    MPQ_MMA_SMALL(small, types, c[0], c[1], a[2], b[1])                                \
    MPQ_MMA_SMALL(small, types, c[2], c[3], a[3], b[1])                                \
  }
#endif
// From sm_90 on, 4-bit operands would silently become calls of a slow routine.
#if MPQ_CUDA_ARCH < 90
MPQ_MMA(mma_u4s4, "m16n8k64", "m8n8k32", "u4.s4")
#endif
MPQ_MMA(mma_u8s8, "m16n8k32", "m8n8k16", "u8.s8")
MPQ_MMA(mma_s8s8, "m16n8k32", "m8n8k16", "s8.s8")

MPQ_DEVICE uint32_t shuffle_xor(uint32_t x, uint32_t mask) {
  return __shfl_xor_sync(0xffffffffU, x, static_cast<int>(mask));
}
MPQ_DEVICE uint32_t shuffle_down16(uint32_t x, uint32_t delta) {
  return __shfl_down_sync(0xffffffffU, x, delta, 16);
}
MPQ_DEVICE uint32_t shuffle_from16(uint32_t x, uint32_t lane) {
  return __shfl_sync(0xffffffffU, x, static_cast<int>(lane), 16);
}
MPQ_DEVICE uint32_t permute_bytes(uint32_t a, uint32_t b, uint32_t s) {
  return __byte_perm(a, b, s);
}

MPQ_DEVICE float fma(float a, float b, float c) { return __fmaf_rn(a, b, c); }
MPQ_DEVICE float add(float a, float b) { return __fadd_rn(a, b); }
MPQ_DEVICE float sub(float a, float b) { return __fsub_rn(a, b); }
MPQ_DEVICE float mul(float a, float b) { return __fmul_rn(a, b); }
MPQ_DEVICE float div(float a, float b) { return __fdiv_rn(a, b); }
MPQ_DEVICE float sqrt(float a) { return __fsqrt_rn(a); }
MPQ_DEVICE float max_number(float a, float b) { return fmaxf(a, b); }
MPQ_DEVICE float min_number(float a, float b) { return fminf(a, b); }
MPQ_DEVICE float to_float(int32_t x) { return __int2float_rn(x); }
MPQ_DEVICE int32_t round_to_int(float x) { return __float2int_rn(x); }
MPQ_DEVICE float round_half_even(float x) { return rintf(x); }
MPQ_DEVICE uint32_t bits_of(float x) { return __float_as_uint(x); }
MPQ_DEVICE float float_of(uint32_t x) { return __uint_as_float(x); }

}  // namespace mpq::cuda
