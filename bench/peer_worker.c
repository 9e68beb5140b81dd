/* mpq's side of bench/peers.py: holds one session and times runs on demand, copies in and out
 * included.
 *
 *   peer_worker model.fb THREADS BATCH [TOKENS]     TOKENS: of each sequence, for models of texts
 *
 * Prints {"version": ...}; then for each line "k" on standard input one line with k times in
 * nanoseconds.
 */
#define _POSIX_C_SOURCE 200809L
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "runtime/mpq.h"

enum { kInputs = 8 }; /* distinct ones, so that no cache holds the answer */

static void require(mpq_status status) {
  if (status == MPQ_OK) return;
  fprintf(stderr, "peer_worker: %s: %s\n", mpq_status_string(status), mpq_last_error());
  exit(1);
}

static uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_nsec;
}

static unsigned random_number(void) {
  static uint32_t seed = 1;
  seed = seed * 1664525U + 1013904223U;
  return seed >> 8;
}

/* One run's images, or with tokens != 0 `batch` sequences of that many tokens. */
typedef struct {
  size_t bytes; /* of images */
  void* images; /* kInputs times */
  uint32_t batch, tokens;
  uint32_t* lengths;
  int32_t* ids; /* kInputs times */
} inputs;

static void* allocate(size_t count, size_t size) {
  void* memory = calloc(count, size);
  if (memory == NULL) exit(1);
  return memory;
}

static void make_images(mpq_session* session, inputs* in) {
  mpq_tensor_info info;
  MPQ_INIT(&info);
  require(mpq_session_input_info(session, 0, &info));
  in->bytes = (size_t)info.bytes;
  in->images = allocate(kInputs, in->bytes);
  for (size_t i = 0; i < kInputs * in->bytes && info.dtype != MPQ_F32; ++i)
    ((unsigned char*)in->images)[i] = (unsigned char)(random_number() >> 16);
}

static void make_sequences(const mpq_model* model, inputs* in) {
  const size_t count = (size_t)in->batch * in->tokens * kInputs;
  const uint32_t words = mpq_model_vocabulary_size(model);
  in->ids = allocate(count, sizeof *in->ids);
  in->lengths = allocate(in->batch, sizeof *in->lengths);
  for (size_t i = 0; i < count; ++i) in->ids[i] = (int32_t)(random_number() % words);
  for (size_t i = 0; i < in->batch; ++i) in->lengths[i] = in->tokens;
}

static void set(mpq_session* session, const inputs* in, size_t turn) {
  const size_t which = turn % kInputs;
  if (in->tokens == 0)
    require(mpq_session_set_input(session, 0, (char*)in->images + which * in->bytes, in->bytes));
  else
    require(mpq_session_set_sequences(session, in->ids + which * in->batch * in->tokens, NULL,
                                      in->lengths, in->batch));
}

int main(int argc, char** argv) {
  mpq_model* model = NULL;
  mpq_session* session = NULL;
  mpq_options options;
  mpq_tensor_info out;
  inputs in = {0};
  void* output;
  size_t done = 0;
  char line[64];

  if (argc != 4 && argc != 5) {
    fprintf(stderr, "usage: peer_worker model.fb THREADS BATCH [TOKENS]\n");
    return 2;
  }
  in.batch = (uint32_t)atoi(argv[3]);
  in.tokens = argc == 5 ? (uint32_t)atoi(argv[4]) : 0;
  MPQ_INIT(&options);
  options.threads = (uint32_t)atoi(argv[2]);
  options.batch = in.batch;
  options.max_tokens = in.batch * in.tokens;
  require(mpq_model_open(argv[1], NULL, &model));
  if ((mpq_model_sequence_length(model) != 0) != (in.tokens != 0)) {
    fprintf(stderr, "peer_worker: %s: TOKENS are for models of texts, and only for them\n",
            argv[1]);
    return 2;
  }
  require(mpq_session_create(model, &options, &session));
  if (in.tokens == 0)
    make_images(session, &in);
  else
    make_sequences(model, &in);
  set(session, &in, 0);
  MPQ_INIT(&out);
  require(mpq_session_output_info(session, 0, &out));
  output = allocate(1, (size_t)out.bytes);

  printf("{\"version\": \"%s\"}\n", mpq_version_string());
  fflush(stdout);
  while (fgets(line, sizeof line, stdin) != NULL) {
    const long runs = strtol(line, NULL, 10);
    putchar('[');
    for (long i = 0; i < runs; ++i) {
      const uint64_t start = now_ns();
      set(session, &in, done++);
      require(mpq_session_run(session));
      require(mpq_session_get_output(session, 0, output, (size_t)out.bytes));
      printf("%s%llu", i == 0 ? "" : ", ", (unsigned long long)(now_ns() - start));
    }
    puts("]");
    fflush(stdout);
  }
  free(in.images);
  free(in.ids);
  free(in.lengths);
  free(output);
  mpq_session_destroy(session);
  mpq_model_close(model);
  return 0;
}
