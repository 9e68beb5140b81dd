/* Runs a model on one input file and prints the largest output:
 *   cc minimal.c $(pkg-config --cflags --libs mpq) -o minimal && ./minimal net.mpq input.bin */
#include <mpq.h>
#include <stdio.h>

#define CHECK(call) \
  if ((call) != MPQ_OK) return fprintf(stderr, "minimal: %s\n", mpq_last_error()), 1

int main(int argc, char** argv) {
  mpq_model* model;
  mpq_session* session;
  void* input;
  const void* output;
  size_t bytes, best = 0;
  if (argc != 3) return fprintf(stderr, "usage: minimal MODEL INPUT\n"), 2;
  CHECK(mpq_model_open(argv[1], NULL, &model));
  CHECK(mpq_session_create(model, NULL, &session));
  CHECK(mpq_session_input_buffer(session, 0, &input, &bytes));
  FILE* file = fopen(argv[2], "rb");
  if (file == NULL || fread(input, 1, bytes, file) != bytes) return perror(argv[2]), 1;
  fclose(file);
  CHECK(mpq_session_run(session));
  CHECK(mpq_session_output_buffer(session, 0, &output, &bytes));
  const float* logits = (const float*)output;
  for (size_t i = 1; i < bytes / sizeof *logits; ++i)
    if (logits[i] > logits[best]) best = i;
  printf("%zu %g\n", best, (double)logits[best]);
  mpq_session_destroy(session);
  mpq_model_close(model);
  return 0;
}
