/* mpq: inference of mixed-precision (8, 4 and 2 bit) networks. The only installed header; C99, C++.
 *
 *   mpq_model* model;
 *   mpq_session* session;
 *   if (mpq_model_open("net.mpq", NULL, &model) || mpq_session_create(model, NULL, &session) ||
 *       mpq_session_set_input(session, 0, pixels, bytes) || mpq_session_run(session) ||
 *       mpq_session_get_output(session, 0, logits, sizeof logits))
 *     fprintf(stderr, "%s\n", mpq_last_error());
 *
 * Conventions
 *
 *  1. Handles (mpq_model, mpq_session) are opaque tickets, never addresses. NULL, a destroyed
 * handle or a handle of the other kind gives MPQ_BAD_HANDLE, never undefined behaviour. Destroying
 * NULL or an already destroyed handle does nothing. A session keeps its model alive: close in any
 * order.
 *  2. Every call that can fail returns mpq_status; 0 is success. Outputs come last and are written
 * only on success. Calls that return a pointer give NULL, calls that return a count give 0, on
 * misuse.
 *  3. mpq_last_error() is the detail of the last failed call of the calling thread: what, where,
 * which numbers; at most 1023 bytes.
 *  4. Nothing is thrown, printed, aborted or read from the environment, except that
 * MPQ_ISA=scalar|avx2| avx512vnni|amx chooses the instruction set of sessions whose options leave
 * it open.
 *  5. Threads: a model may be used by any threads at once. A session takes one call at a time; a
 * second one at the same moment gives MPQ_BUSY. Library calls may be made from any thread.
 *  6. Pointers that the library returns stay valid until the handle they came from is destroyed
 * (for models: and until its sessions are, too). Pointers given to the library are used only during
 * the call, except the bytes of mpq_model_open_memory and the hooks and user pointers of options.
 *  7. Structs begin with struct_size and only grow at their end. Clear them with MPQ_INIT(&s); 0
 * means "default" in every field. Bytes that this library does not know must be 0.
 *  8. After mpq_session_create nothing is allocated: run, inputs and outputs cannot run out of
 * memory.
 *  9. Output bytes depend on the model and the input of the same position only: not on threads,
 * batch, instruction set, neighbours in the batch or the caller's floating-point modes (MXCSR is
 * saved, set and restored by every run).
 * 10. Throughput: as many sessions of one model as requests shall run at the same time ("streams"),
 * each with its own thread of the caller and options.threads such that all together make the CPUs,
 * usually 1. mpq_session_clone makes the others from the first; weights are packed once and shared:
 * a stream costs its activations and scratch. Latency: one session with all threads.
 * 11. After fork() the child may use sessions of one thread and create new ones; running one that
 * had worker threads gives MPQ_INVALID_ARGUMENT there.
 */
#ifndef MPQ_H_
#define MPQ_H_

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define MPQ_API __attribute__((visibility("default")))
#else
#define MPQ_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define MPQ_VERSION_MAJOR 0
#define MPQ_VERSION_MINOR 1
#define MPQ_VERSION_PATCH 0
#define MPQ_MAX_RANK 8

/* ---- Words ---------------------------------------------------------------------------------- */

/* Values are pinned for ever. */
typedef enum mpq_status {
  MPQ_OK = 0,
  /* the caller's fault */
  MPQ_INVALID_ARGUMENT = 1,
  MPQ_NOT_FOUND = 2,
  MPQ_BUSY = 3,
  MPQ_BAD_HANDLE = 4,
  /* the file's fault */
  MPQ_IO = 10,
  MPQ_CORRUPT = 11,
  MPQ_CHECKSUM = 12,
  MPQ_UNSUPPORTED = 13, /* valid, but needs something this build does not know */
  /* the machine's limits */
  MPQ_OUT_OF_MEMORY = 20,
  MPQ_LIMIT = 21, /* a limit set in the options would be exceeded */
  MPQ_UNSUPPORTED_CPU = 22,
  MPQ_DEVICE = 23,
  /* our bug */
  MPQ_INTERNAL = 30
} mpq_status;

/* Element types; unsigned codes are activations, signed codes are weights. Values are pinned. */
typedef enum mpq_dtype {
  MPQ_F32 = 0,
  MPQ_S32 = 1,
  MPQ_U8 = 2,
  MPQ_S8 = 3,
  MPQ_U4 = 4,
  MPQ_S4 = 5,
  MPQ_U2 = 6,
  MPQ_S2 = 7
} mpq_dtype;

/* Instruction sets: bits of mpq_isa_available(). No bit is "scalar": any x86-64. */
#define MPQ_ISA_AVX2 1u
#define MPQ_ISA_AVX512VNNI 2u
#define MPQ_ISA_AMX 4u

typedef struct mpq_model mpq_model;     /* immutable */
typedef struct mpq_session mpq_session; /* one run at a time */

/* Clears a struct and states its size. */
#define MPQ_INIT(pointer) mpq_init_struct((pointer), sizeof *(pointer))
static inline void mpq_init_struct(void* object, size_t size) {
  unsigned char* byte = (unsigned char*)object;
  const uint32_t struct_size = (uint32_t)size;
  size_t i;
  for (i = 0; i < size; ++i)
    byte[i] = i < sizeof struct_size ? ((const unsigned char*)&struct_size)[i] : 0;
}

/* ---- Library -------------------------------------------------------------------------------- */

/* major << 16 | minor << 8 | patch of the library that is running. */
MPQ_API uint32_t mpq_version(void);
MPQ_API const char* mpq_version_string(void); /* "0.1.0" */
MPQ_API const char* mpq_build_info(void);     /* compiler and instruction sets built in, one line */
MPQ_API const char* mpq_status_string(int status); /* "corrupt"; "unknown" for other values */
MPQ_API const char* mpq_last_error(void); /* never NULL; "" when no call of this thread failed */
MPQ_API const char* mpq_dtype_string(uint32_t dtype); /* "u4"; "unknown" for other values */
MPQ_API uint32_t mpq_dtype_bits(uint32_t dtype);      /* 4; 0 for other values */

/* What this machine and its system grant. */
MPQ_API uint32_t mpq_isa_available(void);
/* The word for the highest bit of a mask: "avx512vnni"; "scalar" for 0. */
MPQ_API const char* mpq_isa_name(uint32_t mask);
/* Bits of the level and all levels below it; MPQ_NOT_FOUND for another word. */
MPQ_API mpq_status mpq_isa_parse(const char* name, uint32_t* mask);

/* Threads that sessions use when options say 0: the least of CPU affinity and cgroup quota, >= 1.
 */
MPQ_API uint32_t mpq_default_threads(void);

typedef enum mpq_log_level { MPQ_LOG_INFO = 0, MPQ_LOG_WARNING = 1 } mpq_log_level;
typedef void (*mpq_log_fn)(void* user, mpq_log_level level, const char* text);
/* Messages worth a line (for instance: no fast kernel for a layer). NULL: silent, the default. The
 * function may be called from any thread that is inside a call of this library. */
MPQ_API void mpq_set_log(mpq_log_fn log, void* user);

/* ---- Model ---------------------------------------------------------------------------------- */

typedef struct mpq_model_options {
  uint32_t struct_size;
  /* 1: skip the SHA-256 of weight segments (header and metadata are always verified). */
  uint32_t skip_segment_digests;
  /* 1: map the file instead of reading it into private memory. The caller promises that nobody
   * writes to the file or truncates it while the model is open: results change or the process dies
   * otherwise. */
  uint32_t map_file;
  uint32_t reserved;
  uint64_t max_file_bytes; /* larger files give MPQ_LIMIT; 0: 4 GiB */
} mpq_model_options;

/* Opens, verifies and validates a file. Regular files only. options may be NULL. */
MPQ_API mpq_status mpq_model_open(const char* path, const mpq_model_options* options,
                                  mpq_model** model);
/* The same from memory. Bytes at a 64-byte boundary are borrowed until the model and its sessions
 * are gone and must not change; others are copied. */
MPQ_API mpq_status mpq_model_open_memory(const void* data, size_t bytes,
                                         const mpq_model_options* options, mpq_model** model);
MPQ_API void mpq_model_close(mpq_model* model);

MPQ_API const char* mpq_model_name(const mpq_model* model);
MPQ_API const char* mpq_model_producer(const mpq_model* model);
MPQ_API uint64_t mpq_model_bytes(const mpq_model* model); /* size of the file */
/* SHA-256 of the whole file, 64 lower-case hex digits and a NUL. */
MPQ_API mpq_status mpq_model_sha256(const mpq_model* model, char hex[65]);

typedef struct mpq_tensor_info {
  uint32_t struct_size;
  uint32_t dtype; /* mpq_dtype */
  const char* name;
  uint32_t rank;
  int32_t zero_point; /* of codes: real = scale * (code - zero_point) */
  float scale;        /* 0 when not quantised */
  uint32_t reserved;
  int64_t shape[MPQ_MAX_RANK]; /* outermost first; the first dimension is the batch (1 from the
                                  model) */
  uint64_t elements;
  /* Bytes of the buffer at the API: elements * 4 for f32 and s32, elements for codes (one code a
   * byte, whatever its width; codes above the range count as the highest one). Row-major, no
   * padding. */
  uint64_t bytes;
} mpq_tensor_info;

MPQ_API size_t mpq_model_input_count(const mpq_model* model);
MPQ_API size_t mpq_model_output_count(const mpq_model* model);
MPQ_API mpq_status mpq_model_input_info(const mpq_model* model, size_t index,
                                        mpq_tensor_info* info);
MPQ_API mpq_status mpq_model_output_info(const mpq_model* model, size_t index,
                                         mpq_tensor_info* info);
MPQ_API mpq_status mpq_model_find_input(const mpq_model* model, const char* name, size_t* index);
MPQ_API mpq_status mpq_model_find_output(const mpq_model* model, const char* name, size_t* index);

/* Longest sequence in tokens; 0: the model takes no sequences. */
MPQ_API uint32_t mpq_model_sequence_length(const mpq_model* model);

/* Ids of tokens are below this; 0: the model takes no sequences. */
MPQ_API uint32_t mpq_model_vocabulary_size(const mpq_model* model);

/* A token of a text: a piece of a word, or a special one. */
typedef struct mpq_token {
  int32_t id;          /* of the vocabulary */
  int32_t type;        /* 1 for the second of two texts, else 0 */
  int32_t text;        /* 0 or 1: of which text; -1: a special token */
  uint32_t begin, end; /* bytes of that text; 0 for special tokens */
} mpq_token;

/* 1: the file says how text becomes tokens. 0 otherwise, and for what is no model. */
MPQ_API int mpq_model_takes_text(const mpq_model* model);
/* The tokens of one text, or of two when pair is not NULL, as the model was trained on: UTF-8 (a
 * byte that is none counts as U+FFFD), sizes in bytes. At most max_tokens, special ones included
 * (0: the longest sequence); of two texts the longer one is cut first. *count: how many tokens
 * there are; the first `capacity` of them are written. *cut (may be NULL): those that did not fit
 * in max_tokens. MPQ_UNSUPPORTED for models that take no text. */
MPQ_API mpq_status mpq_model_tokenize(const mpq_model* model, const char* text, size_t text_bytes,
                                      const char* pair, size_t pair_bytes, uint32_t max_tokens,
                                      mpq_token* tokens, size_t capacity, size_t* count,
                                      size_t* cut);
/* The vocabulary's entry, "##ing"; NULL: no such id. */
MPQ_API const char* mpq_model_token(const mpq_model* model, uint32_t id);

/* Class names, in the order of the classifier's outputs. */
MPQ_API size_t mpq_model_label_count(const mpq_model* model);
MPQ_API const char* mpq_model_label(const mpq_model* model, size_t index);

/* Key/value texts. */
MPQ_API size_t mpq_model_metadata_count(const mpq_model* model);
MPQ_API const char* mpq_model_metadata_key(const mpq_model* model, size_t index);
MPQ_API const char* mpq_model_metadata_value(const mpq_model* model, size_t index);
MPQ_API const char* mpq_model_metadata_find(const mpq_model* model,
                                            const char* key); /* NULL: none */

typedef enum mpq_resize {
  MPQ_RESIZE_NONE = 0,
  MPQ_RESIZE_BILINEAR_ANTIALIAS = 1,
  MPQ_RESIZE_BICUBIC_ANTIALIAS = 2,
  MPQ_RESIZE_AREA = 3
} mpq_resize;

/* How an encoded image becomes the u8 NHWC input: resize the shorter side, then cut the centre.
 * mean and stddev (of pixel / 255, RGB) are already inside the model's first layer: for
 * information. */
typedef struct mpq_image_preprocess {
  uint32_t struct_size;
  uint32_t resize;         /* mpq_resize */
  uint32_t resize_shorter; /* 0: no resize */
  uint32_t
      crop_only_small; /* 1: images whose shorter side is in [crop, resize_shorter] are only cut */
  uint32_t crop_h, crop_w;
  float mean[3], stddev[3];
} mpq_image_preprocess;

/* MPQ_NOT_FOUND when the input is not an image. */
MPQ_API mpq_status mpq_model_image_preprocess(const mpq_model* model,
                                              mpq_image_preprocess* preprocess);

/* Layers of the network, in order of execution. */
typedef struct mpq_node_info {
  uint32_t struct_size;
  uint32_t weight_bits; /* 0: no weights */
  const char* name;
  const char* op; /* "conv2d" */
  uint32_t input_bits, output_bits;
  uint32_t rank, reserved; /* of output 0, for a batch of 1 */
  int64_t shape[MPQ_MAX_RANK];
  uint64_t weights;   /* how many */
  uint64_t macs;      /* multiply-accumulates for a batch of 1 */
  const char* output; /* name of output 0 */
} mpq_node_info;

MPQ_API size_t mpq_model_node_count(const mpq_model* model);
MPQ_API mpq_status mpq_model_node_info(const mpq_model* model, size_t index, mpq_node_info* info);

/* The precision map: what was chosen for each layer, by what, from what. */
typedef struct mpq_precision_map {
  uint32_t struct_size;
  uint32_t reserved;
  const char* method;     /* "eagl", "uniform", ... */
  const char* cost_model; /* "bmac", ... */
  const char* solver;
  const char* checkpoint;
  const char* source_sha256;
  double budget;       /* fraction of the all-high cost of the selectable layers */
  double value, bound; /* sum of kept gains, and its LP upper bound */
  uint64_t seed;
  uint64_t layer_count, group_count;
} mpq_precision_map;

typedef struct mpq_precision_layer {
  uint32_t struct_size;
  uint32_t weight_bits, activation_bits; /* activation_bits: of the layer's input */
  uint32_t group;                        /* linked layers share a group and its gain and costs */
  uint32_t fixed;                        /* 1: not chosen by the solver */
  uint32_t reserved;
  const char* node;
  double gain, gain_stderr, cost_high, cost_low;
} mpq_precision_layer;

/* MPQ_NOT_FOUND when the file has no map. */
MPQ_API mpq_status mpq_model_precision_map(const mpq_model* model, mpq_precision_map* map);
MPQ_API mpq_status mpq_model_precision_layer(const mpq_model* model, size_t index,
                                             mpq_precision_layer* layer);

/* Weights that the file holds in the layouts of kernels as well: sessions that choose such a kernel
 * copy them instead of packing. Everything works without them. */
typedef struct mpq_prepacked_info {
  uint32_t struct_size;
  uint32_t node;      /* index for mpq_model_node_info */
  const char* layout; /* name and version of the kernels' layout */
  uint64_t bytes;
} mpq_prepacked_info;

MPQ_API size_t mpq_model_prepacked_count(const mpq_model* model);
MPQ_API mpq_status mpq_model_prepacked_info(const mpq_model* model, size_t index,
                                            mpq_prepacked_info* info);

/* Takes bytes that are valid during the call. */
typedef void (*mpq_take_fn)(void* user, const void* data, size_t bytes);
/* Gives the model's file with prepacked weights for sessions of `isa` ("avx512vnni"; this machine
 * need not have it) with batch 1 to take, once. Prepacked weights of other layouts stay. */
MPQ_API mpq_status mpq_model_prepack(const mpq_model* model, const char* isa, mpq_take_fn take,
                                     void* user);

/* ---- Session -------------------------------------------------------------------------------- */

/* Calls task(arg, i) once for every i in [0, tasks), in any order, at the same time or not, and
 * returns when all have returned. */
typedef void (*mpq_parallel_for_fn)(void* user, size_t tasks, void (*task)(void* arg, size_t index),
                                    void* arg);

/* step: index for mpq_session_step_info. */
typedef void (*mpq_step_fn)(void* user, size_t step);

typedef struct mpq_options {
  uint32_t struct_size;
  uint32_t batch;        /* images, or sequences, per run; 0: 1 */
  uint32_t threads;      /* 0: mpq_default_threads(); 1 starts no thread */
  uint32_t profile;      /* 1: measure the time of every step */
  uint32_t keep_tensors; /* 1: no tensor's memory is reused, mpq_session_get_tensor works */
  uint32_t max_tokens;   /* of all sequences of a run together; 0: batch times the longest one */
  /* "scalar", "avx2", "avx512vnni", "amx"; NULL: MPQ_ISA or else everything available. A level that
   * the machine lacks gives MPQ_UNSUPPORTED_CPU. */
  const char* isa;
  uint64_t memory_limit; /* activations, scratch and weights in kernel layout; 0: 2 GiB. Checked
                            before anything is allocated: MPQ_LIMIT */
  mpq_parallel_for_fn
      parallel_for; /* the host's threads instead of the library's; NULL: own threads */
  void* parallel_for_user;
  /* Memory of activations and scratch; both or neither. align is a power of two. */
  void* (*allocate)(void* user, size_t bytes, size_t align);
  void (*deallocate)(void* user, void* memory);
  void* allocator_user;
  /* 1: choose kernels by their time on this machine instead of by the library's tables. The network
   * runs a few times with each kernel that could serve a layer, for a second or a few, with the
   * memory of one session a kernel. Outputs are the same bytes. */
  uint32_t tune;
  uint32_t reserved;
  /* With tune: a file of measured times, read before and completed after; times of another CPU or
   * version and files that are none are replaced, with a warning to the log. NULL: none is kept. */
  const char* tune_cache;
  /* Where the network runs: NULL or "cpu", or "cuda", "cuda:1" for the first or second NVIDIA GPU,
   * with the same output bytes. MPQ_DEVICE with the reason in mpq_last_error() where there is none,
   * MPQ_UNSUPPORTED with the layer's name where a layer has no kernel there. Of a GPU: threads,
   * isa, parallel_for and tune must be left open, memory_limit counts the GPU's memory, and
   * keep_tensors, profile, batch and max_tokens are as on the CPU. */
  const char* device;
  /* Called after every step of a run, in their order, on the thread that called mpq_session_run; no
   * call of this session is allowed in it. All steps then run one behind the other, layers of a
   * batch too that would else run image by image. Not inherited by clones. NULL: none. */
  mpq_step_fn step_done;
  void* step_done_user;
} mpq_options;

/* Plans the network for this machine and allocates everything it will need. options may be NULL. */
MPQ_API mpq_status mpq_session_create(const mpq_model* model, const mpq_options* options,
                                      mpq_session** session);
/* Another session of the same model with the same options and kernels; weights are shared. Inputs
 * are not copied. */
MPQ_API mpq_status mpq_session_clone(const mpq_session* session, mpq_session** clone);
MPQ_API void mpq_session_destroy(mpq_session* session);

/* As mpq_model_input_info, with the session's batch. */
MPQ_API mpq_status mpq_session_input_info(const mpq_session* session, size_t index,
                                          mpq_tensor_info* info);
MPQ_API mpq_status mpq_session_output_info(const mpq_session* session, size_t index,
                                           mpq_tensor_info* info);

/* Copies in; bytes must be the info's. Inputs keep their value over runs; at first they are 0. */
MPQ_API mpq_status mpq_session_set_input(mpq_session* session, size_t index, const void* data,
                                         size_t bytes);
/* The input itself, 64-byte aligned, to write in place between runs. */
MPQ_API mpq_status mpq_session_input_buffer(mpq_session* session, size_t index, void** data,
                                            size_t* bytes);

/* The input of a sequence model: `count` sequences of lengths[i] tokens, one behind the other,
 * without padding. ids: of the vocabulary; types (0 or 1 for the second of two texts): NULL for all
 * 0. Output shapes are then those of these sequences, see mpq_session_output_info: rows of tokens,
 * or rows of sequences. Checks everything; on an error nothing has changed. Ids and types have no
 * other way in. MPQ_UNSUPPORTED for models of images. */
MPQ_API mpq_status mpq_session_set_sequences(mpq_session* session, const int32_t* ids,
                                             const int32_t* types, const uint32_t* lengths,
                                             size_t count);

MPQ_API mpq_status mpq_session_run(mpq_session* session);

/* Copies out; bytes must be the info's. 0 before the first run. */
MPQ_API mpq_status mpq_session_get_output(const mpq_session* session, size_t index, void* data,
                                          size_t bytes);
/* The output itself, 64-byte aligned, to read in place until the next run. */
MPQ_API mpq_status mpq_session_output_buffer(const mpq_session* session, size_t index,
                                             const void** data, size_t* bytes);

/* Any tensor by its name in the file, in canonical form; keep_tensors only (else MPQ_UNSUPPORTED).
 */
MPQ_API mpq_status mpq_session_tensor_info(const mpq_session* session, const char* name,
                                           mpq_tensor_info* info);
MPQ_API mpq_status mpq_session_get_tensor(const mpq_session* session, const char* name, void* data,
                                          size_t bytes);

/* Bytes: activations and scratch of this session, and weights in kernel layout, which sessions of
 * one model and instruction set share. */
typedef struct mpq_memory_info {
  uint32_t struct_size;
  uint32_t reserved;
  uint64_t activations, scratch, weights;
} mpq_memory_info;
MPQ_API mpq_status mpq_session_memory_info(const mpq_session* session, mpq_memory_info* info);
MPQ_API size_t mpq_session_memory(const mpq_session* session); /* the sum of the three */

MPQ_API uint32_t mpq_session_threads(const mpq_session* session);
MPQ_API uint32_t mpq_session_batch(const mpq_session* session);
MPQ_API uint32_t
mpq_session_isa(const mpq_session* session); /* the mask kernels were chosen from */
/* "cpu", or "cuda:0 (NVIDIA A100-SXM4-80GB, sm_80)". */
MPQ_API const char* mpq_session_device(const mpq_session* session);

/* ---- A look inside --------------------------------------------------------------------------- */

typedef struct mpq_step_info {
  uint32_t struct_size;
  uint32_t node;      /* index for mpq_model_node_info; UINT32_MAX: a step of the library's own */
  const char* name;   /* the node's name */
  const char* op;     /* "conv2d" */
  const char* kernel; /* "conv_u8s4_14x32_avx512vnni" */
  uint32_t isa;       /* bits the kernel needs */
  uint32_t fallback;  /* 1: portable code although the session may use vectors */
  uint32_t input_bits, weight_bits, output_bits; /* weight_bits 0: no weights */
  uint32_t threads;                              /* parts that run at the same time */
  uint64_t macs;                                 /* of the next run */
  uint64_t weight_bytes;                         /* in kernel layout */
  uint64_t activation_bytes;                     /* read and written in it, without halo */
  uint64_t runs;                                 /* measured runs */
  uint64_t last_ns, total_ns;
} mpq_step_info;

MPQ_API size_t mpq_session_step_count(const mpq_session* session);
MPQ_API mpq_status mpq_session_step_info(const mpq_session* session, size_t index,
                                         mpq_step_info* info);
/* Starts (1) or stops (0) measuring; starting clears the times. */
MPQ_API mpq_status mpq_session_profile(mpq_session* session, int on);

#ifdef __cplusplus
}
#endif

#endif /* MPQ_H_ */
