/* mpq's side of bench/peers.py: holds one session and times runs on demand, copies in and out
 * included.
 *
 *   peer_worker model.fb THREADS BATCH
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

int main(int argc, char** argv) {
  mpq_model* model = NULL;
  mpq_session* session = NULL;
  mpq_options options;
  mpq_tensor_info in, out;
  unsigned char* input;
  unsigned char* output;
  uint32_t seed = 1;
  size_t done = 0;
  char line[64];

  if (argc != 4) {
    fprintf(stderr, "usage: peer_worker model.fb THREADS BATCH\n");
    return 2;
  }
  MPQ_INIT(&options);
  options.threads = (uint32_t)atoi(argv[2]);
  options.batch = (uint32_t)atoi(argv[3]);
  require(mpq_model_open(argv[1], NULL, &model));
  require(mpq_session_create(model, &options, &session));
  MPQ_INIT(&in);
  MPQ_INIT(&out);
  require(mpq_session_input_info(session, 0, &in));
  require(mpq_session_output_info(session, 0, &out));
  input = malloc((size_t)in.bytes * kInputs);
  output = malloc((size_t)out.bytes);
  if (input == NULL || output == NULL) return 1;
  for (size_t i = 0; i < (size_t)in.bytes * kInputs; ++i) {
    seed = seed * 1664525U + 1013904223U;
    input[i] = in.dtype == MPQ_F32 ? 0 : (unsigned char)(seed >> 24);
  }

  printf("{\"version\": \"%s\"}\n", mpq_version_string());
  fflush(stdout);
  while (fgets(line, sizeof line, stdin) != NULL) {
    const long runs = strtol(line, NULL, 10);
    putchar('[');
    for (long i = 0; i < runs; ++i) {
      const uint64_t start = now_ns();
      require(mpq_session_set_input(session, 0, input + (done++ % kInputs) * in.bytes,
                                    (size_t)in.bytes));
      require(mpq_session_run(session));
      require(mpq_session_get_output(session, 0, output, (size_t)out.bytes));
      printf("%s%llu", i == 0 ? "" : ", ", (unsigned long long)(now_ns() - start));
    }
    puts("]");
    fflush(stdout);
  }
  free(input);
  free(output);
  mpq_session_destroy(session);
  mpq_model_close(model);
  return 0;
}
