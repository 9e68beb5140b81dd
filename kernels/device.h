// Marks of the CUDA compiler on definitions that CPU and GPU kernels share; nothing elsewhere.
#pragma once

#ifdef __CUDACC__
#define MPQ_EVERYWHERE __host__ __device__
#define MPQ_TABLE __device__
#else
#define MPQ_EVERYWHERE
#define MPQ_TABLE
#endif
