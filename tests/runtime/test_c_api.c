/* The C API from C99: every function with good arguments and with each bad one.
 *   test_c_api MODEL INPUT EXPECTED        (written by write_tiny)
 * tests/runtime/check_api.sh holds that every function of mpq.h is named here. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/mpq.h"

static int failures = 0;

#define CHECK(condition)                                                             \
  do {                                                                               \
    if (!(condition)) {                                                              \
      ++failures;                                                                    \
      printf("%s:%d: failed: %s (last error: %s)\n", __FILE__, __LINE__, #condition, \
             mpq_last_error());                                                      \
    }                                                                                \
  } while (0)

/* A call that must fail with a status and leave a text. */
#define REFUSED(status, call)           \
  do {                                  \
    CHECK((call) == (status));          \
    CHECK(mpq_last_error()[0] != '\0'); \
  } while (0)

static unsigned char* read_file(const char* path, size_t* bytes) {
  FILE* file = fopen(path, "rb");
  unsigned char* data;
  if (file == NULL || fseek(file, 0, SEEK_END) != 0) exit(2);
  *bytes = (size_t)ftell(file);
  rewind(file);
  data = (unsigned char*)malloc(*bytes + 1);
  if (data == NULL || fread(data, 1, *bytes, file) != *bytes) exit(2);
  fclose(file);
  return data;
}

/* Handles that are not: NULL, noise, an address, and one that was destroyed. */
static void* bad_handles[4];

static void test_library(void) {
  uint32_t mask = 77;
  CHECK(mpq_version() == (MPQ_VERSION_MAJOR << 16 | MPQ_VERSION_MINOR << 8 | MPQ_VERSION_PATCH));
  CHECK(strcmp(mpq_version_string(), "0.1.0") == 0);
  CHECK(strstr(mpq_build_info(), "scalar") != NULL);
  CHECK(strcmp(mpq_status_string(MPQ_CORRUPT), "corrupt") == 0);
  CHECK(mpq_status_string(999) != NULL);
  CHECK(strcmp(mpq_dtype_string(MPQ_U4), "u4") == 0);
  CHECK(strcmp(mpq_dtype_string(99), "unknown") == 0);
  CHECK(mpq_dtype_bits(MPQ_S2) == 2);
  CHECK(mpq_dtype_bits(0xFFFFFFFFu) == 0);
  CHECK(strcmp(mpq_isa_name(0), "scalar") == 0);
  CHECK(strcmp(mpq_isa_name(MPQ_ISA_AVX2 | MPQ_ISA_AVX512VNNI), "avx512vnni") == 0);
  CHECK(mpq_isa_parse("avx512vnni", &mask) == MPQ_OK &&
        mask == (MPQ_ISA_AVX2 | MPQ_ISA_AVX512VNNI));
  REFUSED(MPQ_NOT_FOUND, mpq_isa_parse("mmx", &mask));
  REFUSED(MPQ_INVALID_ARGUMENT, mpq_isa_parse(NULL, &mask));
  REFUSED(MPQ_INVALID_ARGUMENT, mpq_isa_parse("scalar", NULL));
  CHECK((mpq_isa_available() & ~7u) == 0);
  CHECK(mpq_default_threads() >= 1);
}

static void test_open(const char* path, const unsigned char* file, size_t bytes) {
  mpq_model* model = NULL;
  mpq_model_options options;
  unsigned char* moved = (unsigned char*)malloc(bytes + 1);
  struct {
    mpq_model_options known;
    uint64_t unknown;
  } newer;

  REFUSED(MPQ_INVALID_ARGUMENT, mpq_model_open(NULL, NULL, &model));
  REFUSED(MPQ_INVALID_ARGUMENT, mpq_model_open(path, NULL, NULL));
  REFUSED(MPQ_IO, mpq_model_open("", NULL, &model));
  REFUSED(MPQ_IO, mpq_model_open("/", NULL, &model));
  REFUSED(MPQ_INVALID_ARGUMENT, mpq_model_open_memory(NULL, bytes, NULL, &model));
  REFUSED(MPQ_INVALID_ARGUMENT, mpq_model_open_memory(file, bytes, NULL, NULL));
  REFUSED(MPQ_CORRUPT, mpq_model_open_memory(file, 0, NULL, &model));
  REFUSED(MPQ_CORRUPT, mpq_model_open_memory(file, bytes - 1, NULL, &model));
  REFUSED(MPQ_LIMIT, mpq_model_open_memory(file, SIZE_MAX, NULL, &model));
  CHECK(model == NULL);

  MPQ_INIT(&options);
  options.map_file = 2;
  REFUSED(MPQ_INVALID_ARGUMENT, mpq_model_open(path, &options, &model));
  MPQ_INIT(&options);
  options.max_file_bytes = bytes - 1;
  REFUSED(MPQ_LIMIT, mpq_model_open(path, &options, &model));
  REFUSED(MPQ_LIMIT, mpq_model_open_memory(file, bytes, &options, &model));
  options.struct_size = 3;
  REFUSED(MPQ_INVALID_ARGUMENT, mpq_model_open(path, &options, &model));
  options.struct_size = 0xFFFFFFFFu;
  REFUSED(MPQ_INVALID_ARGUMENT, mpq_model_open(path, &options, &model));
  CHECK(model == NULL);

  /* An unaligned copy, and the mapped file. */
  if (moved == NULL) exit(2);
  memcpy(moved + 1, file, bytes);
  CHECK(mpq_model_open_memory(moved + 1, bytes, NULL, &model) == MPQ_OK);
  mpq_model_close(model);
  free(moved);
  MPQ_INIT(&options);
  options.map_file = 1;
  options.skip_segment_digests = 1;
  CHECK(mpq_model_open(path, &options, &model) == MPQ_OK);
  mpq_model_close(model);

  /* A program built against a newer header: unknown fields are fine while they are 0. */
  MPQ_INIT(&newer);
  CHECK(mpq_model_open(path, &newer.known, &model) == MPQ_OK);
  mpq_model_close(model);
  newer.unknown = 1;
  REFUSED(MPQ_UNSUPPORTED, mpq_model_open(path, &newer.known, &model));
}

static void test_model(const mpq_model* model, size_t bytes) {
  mpq_tensor_info tensor;
  mpq_image_preprocess image;
  mpq_node_info node;
  mpq_precision_map map;
  mpq_precision_layer layer;
  char hex[65];
  size_t index = 99;

  CHECK(strcmp(mpq_model_name(model), "everything") == 0);
  CHECK(strcmp(mpq_model_producer(model), "tests") == 0);
  CHECK(mpq_model_bytes(model) == bytes);
  CHECK(mpq_model_sha256(model, hex) == MPQ_OK && strlen(hex) == 64);
  REFUSED(MPQ_INVALID_ARGUMENT, mpq_model_sha256(model, NULL));

  CHECK(mpq_model_input_count(model) == 1);
  CHECK(mpq_model_output_count(model) == 5);
  MPQ_INIT(&tensor);
  CHECK(mpq_model_input_info(model, 0, &tensor) == MPQ_OK);
  CHECK(strcmp(tensor.name, "pixels") == 0 && tensor.dtype == MPQ_U8 && tensor.rank == 4);
  CHECK(tensor.shape[1] == 17 && tensor.shape[2] == 15 && tensor.shape[3] == 3);
  CHECK(tensor.bytes == 17 * 15 * 3 && tensor.struct_size == sizeof tensor);
  CHECK(mpq_model_output_info(model, 0, &tensor) == MPQ_OK);
  CHECK(tensor.dtype == MPQ_F32 && tensor.rank == 2 && tensor.elements == 10 && tensor.bytes == 40);
  REFUSED(MPQ_INVALID_ARGUMENT, mpq_model_input_info(model, 1, &tensor));
  REFUSED(MPQ_INVALID_ARGUMENT, mpq_model_input_info(model, SIZE_MAX, &tensor));
  REFUSED(MPQ_INVALID_ARGUMENT, mpq_model_input_info(model, 0, NULL));
  REFUSED(MPQ_INVALID_ARGUMENT, mpq_model_output_info(model, 5, &tensor));
  REFUSED(MPQ_INVALID_ARGUMENT, mpq_model_output_info(model, 0, NULL));
  tensor.struct_size = 8;
  REFUSED(MPQ_INVALID_ARGUMENT, mpq_model_output_info(model, 0, &tensor));

  CHECK(mpq_model_find_input(model, "pixels", &index) == MPQ_OK && index == 0);
  CHECK(mpq_model_find_output(model, "sums.y", &index) == MPQ_OK && index == 1);
  REFUSED(MPQ_NOT_FOUND, mpq_model_find_input(model, "sums.y", &index));
  REFUSED(MPQ_NOT_FOUND, mpq_model_find_output(model, "", &index));
  REFUSED(MPQ_INVALID_ARGUMENT, mpq_model_find_input(model, NULL, &index));
  REFUSED(MPQ_INVALID_ARGUMENT, mpq_model_find_output(model, "sums.y", NULL));
  CHECK(index == 1);

  CHECK(mpq_model_label_count(model) == 10);
  CHECK(strcmp(mpq_model_label(model, 9), "class 9") == 0);
  CHECK(mpq_model_label(model, 10) == NULL && mpq_model_label(model, SIZE_MAX) == NULL);
  CHECK(mpq_model_metadata_count(model) == 2);
  CHECK(strcmp(mpq_model_metadata_key(model, 1), "license") == 0);
  CHECK(strcmp(mpq_model_metadata_value(model, 1), "none") == 0);
  CHECK(mpq_model_metadata_key(model, 2) == NULL && mpq_model_metadata_value(model, 2) == NULL);
  CHECK(strcmp(mpq_model_metadata_find(model, "author"), "tests") == 0);
  CHECK(mpq_model_metadata_find(model, "none") == NULL &&
        mpq_model_metadata_find(model, NULL) == NULL);

  MPQ_INIT(&image);
  CHECK(mpq_model_image_preprocess(model, &image) == MPQ_OK);
  CHECK(image.crop_h == 17 && image.crop_w == 15 && image.resize == MPQ_RESIZE_BILINEAR_ANTIALIAS);
  REFUSED(MPQ_INVALID_ARGUMENT, mpq_model_image_preprocess(model, NULL));

  CHECK(mpq_model_node_count(model) == 13);
  MPQ_INIT(&node);
  CHECK(mpq_model_node_info(model, 1, &node) == MPQ_OK);
  CHECK(strcmp(node.name, "stem") == 0 && strcmp(node.op, "conv2d") == 0);
  CHECK(strcmp(node.output, "stem.y") == 0);
  CHECK(node.input_bits == 8 && node.weight_bits == 8 && node.output_bits == 4);
  CHECK(node.weights == 20 * 3 * 5 * 5 && node.macs == node.weights * 9 * 8);
  REFUSED(MPQ_INVALID_ARGUMENT, mpq_model_node_info(model, 13, &node));
  REFUSED(MPQ_INVALID_ARGUMENT, mpq_model_node_info(model, 0, NULL));

  MPQ_INIT(&map);
  CHECK(mpq_model_precision_map(model, &map) == MPQ_OK);
  CHECK(strcmp(map.method, "manual") == 0 && map.layer_count == 1 && map.group_count == 1);
  REFUSED(MPQ_INVALID_ARGUMENT, mpq_model_precision_map(model, NULL));
  MPQ_INIT(&layer);
  CHECK(mpq_model_precision_layer(model, 0, &layer) == MPQ_OK);
  CHECK(strcmp(layer.node, "stem") == 0 && layer.weight_bits == 8 && layer.fixed == 1);
  CHECK(layer.gain == 1.5 && layer.gain_stderr == 0.25 && layer.cost_high == 8 &&
        layer.cost_low == 4);
  REFUSED(MPQ_INVALID_ARGUMENT, mpq_model_precision_layer(model, 1, &layer));
  REFUSED(MPQ_INVALID_ARGUMENT, mpq_model_precision_layer(model, 0, NULL));
}

/* Counts calls, keeps the bytes. */
struct taken {
  int calls;
  size_t bytes;
  unsigned char* data;
};

static void take(void* user, const void* data, size_t bytes) {
  struct taken* t = (struct taken*)user;
  ++t->calls;
  t->bytes = bytes;
  t->data = (unsigned char*)malloc(bytes);
  if (t->data == NULL) exit(2);
  memcpy(t->data, data, bytes);
}

static void test_prepack(const mpq_model* model, const unsigned char* input, size_t input_bytes,
                         const unsigned char* expected, size_t expected_bytes) {
  struct taken file = {0, 0, NULL};
  mpq_model* packed = NULL;
  mpq_session* session = NULL;
  mpq_prepacked_info info;
  mpq_node_info node;
  unsigned char output[256];
  size_t i, count;
  MPQ_INIT(&info);
  CHECK(mpq_model_prepacked_count(model) == 0);
  REFUSED(MPQ_INVALID_ARGUMENT, mpq_model_prepacked_info(model, 0, &info));
  REFUSED(MPQ_INVALID_ARGUMENT, mpq_model_prepack(model, NULL, take, &file));
  REFUSED(MPQ_INVALID_ARGUMENT, mpq_model_prepack(model, "avx512vnni", NULL, &file));
  REFUSED(MPQ_INVALID_ARGUMENT, mpq_model_prepack(model, "", take, &file));
  REFUSED(MPQ_INVALID_ARGUMENT, mpq_model_prepack(model, "avx512vmni", take, &file));
  CHECK(strstr(mpq_last_error(), "avx512vmni") != NULL);
  CHECK(file.calls == 0);

  CHECK(mpq_model_prepack(model, "avx512vnni", take, &file) == MPQ_OK && file.calls == 1);
  CHECK(mpq_model_open_memory(file.data, file.bytes, NULL, &packed) == MPQ_OK);
  count = mpq_model_prepacked_count(packed);
  CHECK(count > 0);
  MPQ_INIT(&node);
  for (i = 0; i < count; ++i) {
    CHECK(mpq_model_prepacked_info(packed, i, &info) == MPQ_OK);
    CHECK(info.layout[0] != '\0' && info.bytes > 0 && info.struct_size == sizeof info);
    CHECK(mpq_model_node_info(packed, info.node, &node) == MPQ_OK && node.weight_bits != 0);
    CHECK(info.bytes >= node.weights * node.weight_bits / 8);
  }
  REFUSED(MPQ_INVALID_ARGUMENT, mpq_model_prepacked_info(packed, count, &info));
  REFUSED(MPQ_INVALID_ARGUMENT, mpq_model_prepacked_info(packed, 0, NULL));
  CHECK(mpq_session_create(packed, NULL, &session) == MPQ_OK);
  CHECK(mpq_session_set_input(session, 0, input, input_bytes) == MPQ_OK);
  CHECK(mpq_session_run(session) == MPQ_OK);
  CHECK(mpq_session_get_output(session, 0, output, expected_bytes) == MPQ_OK);
  CHECK(memcmp(output, expected, expected_bytes) == 0);
  mpq_session_destroy(session);
  mpq_model_close(packed);
  free(file.data);
}

static void serial_for(void* user, size_t tasks, void (*task)(void*, size_t), void* arg) {
  size_t i;
  ++*(int*)user;
  for (i = 0; i < tasks; ++i) task(arg, i);
}

static void* no_memory(void* user, size_t bytes, size_t align) {
  (void)user, (void)bytes, (void)align;
  return NULL;
}
static void no_release(void* user, void* memory) { (void)user, (void)memory; }

static void test_options(const mpq_model* model) {
  mpq_session* session = NULL;
  mpq_options options;
#define REFUSED_WITH(status, field, value)                          \
  do {                                                              \
    MPQ_INIT(&options);                                             \
    options.field = (value);                                        \
    REFUSED(status, mpq_session_create(model, &options, &session)); \
  } while (0)
  CHECK(mpq_model_sequence_length(model) == 0);
  CHECK(mpq_model_vocabulary_size(model) == 0);
  CHECK(mpq_model_takes_text(model) == 0);
  CHECK(mpq_model_token(model, 0) == NULL);
  REFUSED(MPQ_UNSUPPORTED,
          mpq_model_tokenize(model, "a", 1, NULL, 0, 0, NULL, 0, &(size_t){0}, NULL));
  REFUSED(MPQ_INVALID_ARGUMENT, mpq_session_create(model, NULL, NULL));
  REFUSED_WITH(MPQ_INVALID_ARGUMENT, struct_size, 0);
  REFUSED_WITH(MPQ_INVALID_ARGUMENT, struct_size, 4);
  REFUSED_WITH(MPQ_INVALID_ARGUMENT, struct_size, 5000);
  REFUSED_WITH(MPQ_INVALID_ARGUMENT, batch, 65537);
  REFUSED_WITH(MPQ_INVALID_ARGUMENT, batch, 0xFFFFFFFFu);
  REFUSED_WITH(MPQ_INVALID_ARGUMENT, threads, 1025);
  REFUSED_WITH(MPQ_INVALID_ARGUMENT, profile, 2);
  REFUSED_WITH(MPQ_INVALID_ARGUMENT, keep_tensors, 7);
  REFUSED_WITH(MPQ_INVALID_ARGUMENT, tune, 2);
  REFUSED_WITH(MPQ_INVALID_ARGUMENT, reserved, 1);
  REFUSED_WITH(MPQ_INVALID_ARGUMENT, tune_cache, "times"); /* without tune */
  REFUSED_WITH(MPQ_INVALID_ARGUMENT, device, "gpu");
  REFUSED_WITH(MPQ_INVALID_ARGUMENT, device, "cuda:x");
  REFUSED_WITH(MPQ_DEVICE, device, "cuda:99");
  REFUSED_WITH(MPQ_INVALID_ARGUMENT, max_tokens, 2); /* a model of images */
  REFUSED_WITH(MPQ_INVALID_ARGUMENT, isa, "");
  REFUSED_WITH(MPQ_INVALID_ARGUMENT, isa, "avx");
  if (!(mpq_isa_available() & MPQ_ISA_AMX)) REFUSED_WITH(MPQ_UNSUPPORTED_CPU, isa, "amx");
  REFUSED_WITH(MPQ_LIMIT, memory_limit, 1000);
  REFUSED_WITH(MPQ_INVALID_ARGUMENT, allocate, no_memory);
  REFUSED_WITH(MPQ_INVALID_ARGUMENT, deallocate, no_release);
  MPQ_INIT(&options);
  options.allocate = no_memory;
  options.deallocate = no_release;
  REFUSED(MPQ_OUT_OF_MEMORY, mpq_session_create(model, &options, &session));
  CHECK(session == NULL);
}

static void test_session(const mpq_model* model, const unsigned char* input, size_t input_bytes,
                         const unsigned char* expected, size_t expected_bytes) {
  mpq_session *session = NULL, *clone = NULL;
  mpq_options options;
  mpq_tensor_info tensor;
  mpq_step_info step;
  mpq_memory_info memory;
  unsigned char output[256], first[16];
  void* in = NULL;
  const void* out = NULL;
  size_t bytes = 0, i, steps;
  int calls = 0;
  uint64_t macs = 0;

  MPQ_INIT(&options);
  options.batch = 2;
  options.threads = 2;
  options.isa = "scalar";
  options.parallel_for = serial_for;
  options.parallel_for_user = &calls;
  CHECK(expected_bytes * 2 <= sizeof output);
  CHECK(mpq_session_create(model, &options, &session) == MPQ_OK);
  CHECK(mpq_session_batch(session) == 2 && mpq_session_threads(session) == 2);
  CHECK(mpq_session_isa(session) == 0);
  CHECK(strcmp(mpq_session_device(session), "cpu") == 0);

  MPQ_INIT(&tensor);
  CHECK(mpq_session_input_info(session, 0, &tensor) == MPQ_OK);
  CHECK(tensor.shape[0] == 2 && tensor.bytes == input_bytes * 2);
  CHECK(mpq_session_output_info(session, 0, &tensor) == MPQ_OK &&
        tensor.bytes == expected_bytes * 2);
  REFUSED(MPQ_INVALID_ARGUMENT, mpq_session_input_info(session, 1, &tensor));
  REFUSED(MPQ_INVALID_ARGUMENT, mpq_session_input_info(session, 0, NULL));
  REFUSED(MPQ_INVALID_ARGUMENT, mpq_session_output_info(session, 9, &tensor));
  REFUSED(MPQ_INVALID_ARGUMENT, mpq_session_output_info(session, 0, NULL));

  REFUSED(MPQ_INVALID_ARGUMENT, mpq_session_set_input(session, 0, NULL, input_bytes * 2));
  REFUSED(MPQ_INVALID_ARGUMENT, mpq_session_set_input(session, 0, input, input_bytes * 2 - 1));
  REFUSED(MPQ_INVALID_ARGUMENT, mpq_session_set_input(session, 0, input, input_bytes * 2 + 1));
  REFUSED(MPQ_INVALID_ARGUMENT, mpq_session_set_input(session, 0, input, SIZE_MAX));
  REFUSED(MPQ_INVALID_ARGUMENT, mpq_session_set_input(session, 0, input, 0));
  REFUSED(MPQ_INVALID_ARGUMENT, mpq_session_set_input(session, 1, input, input_bytes));
  REFUSED(MPQ_INVALID_ARGUMENT, mpq_session_input_buffer(session, 0, NULL, &bytes));
  REFUSED(MPQ_INVALID_ARGUMENT, mpq_session_input_buffer(session, 0, &in, NULL));
  REFUSED(MPQ_INVALID_ARGUMENT, mpq_session_input_buffer(session, 1, &in, &bytes));
  CHECK(mpq_session_input_buffer(session, 0, &in, &bytes) == MPQ_OK);
  CHECK(bytes == input_bytes * 2 && (uintptr_t)in % 64 == 0);
  memcpy(in, input, input_bytes);
  memcpy((unsigned char*)in + input_bytes, input, input_bytes);

  {
    const int32_t id = 0;
    const uint32_t length = 1;
    REFUSED(MPQ_UNSUPPORTED, mpq_session_set_sequences(session, &id, NULL, &length, 1));
    REFUSED(MPQ_INVALID_ARGUMENT, mpq_session_set_sequences(session, NULL, NULL, &length, 1));
  }
  CHECK(mpq_session_run(session) == MPQ_OK);
  CHECK(mpq_session_get_output(session, 0, output, expected_bytes * 2) == MPQ_OK);
  CHECK(memcmp(output, expected, expected_bytes) == 0);
  CHECK(memcmp(output + expected_bytes, expected, expected_bytes) == 0);
  CHECK(mpq_session_output_buffer(session, 0, &out, &bytes) == MPQ_OK);
  CHECK(bytes == expected_bytes * 2 && memcmp(out, output, bytes) == 0 && (uintptr_t)out % 64 == 0);
  REFUSED(MPQ_INVALID_ARGUMENT, mpq_session_get_output(session, 0, NULL, expected_bytes * 2));
  REFUSED(MPQ_INVALID_ARGUMENT, mpq_session_get_output(session, 0, output, expected_bytes));
  REFUSED(MPQ_INVALID_ARGUMENT, mpq_session_get_output(session, 5, output, expected_bytes * 2));
  REFUSED(MPQ_INVALID_ARGUMENT, mpq_session_output_buffer(session, 0, NULL, &bytes));
  REFUSED(MPQ_INVALID_ARGUMENT, mpq_session_output_buffer(session, 0, &out, NULL));
  REFUSED(MPQ_INVALID_ARGUMENT, mpq_session_output_buffer(session, 5, &out, &bytes));

  REFUSED(MPQ_UNSUPPORTED, mpq_session_tensor_info(session, "stem.y", &tensor));
  REFUSED(MPQ_UNSUPPORTED, mpq_session_get_tensor(session, "stem.y", first, sizeof first));

  CHECK(mpq_session_profile(session, 1) == MPQ_OK);
  CHECK(mpq_session_run(session) == MPQ_OK && mpq_session_run(session) == MPQ_OK);
  steps = mpq_session_step_count(session);
  CHECK(steps >= 13);
  MPQ_INIT(&step);
  for (i = 0; i < steps; ++i) {
    CHECK(mpq_session_step_info(session, i, &step) == MPQ_OK);
    CHECK(step.runs == 2 && step.total_ns >= step.last_ns && step.kernel[0] != '\0');
    CHECK(step.isa == 0 && step.fallback == 0 && step.threads <= 2);
    macs += step.macs;
  }
  CHECK(macs > 0);
  REFUSED(MPQ_INVALID_ARGUMENT, mpq_session_step_info(session, steps, &step));
  REFUSED(MPQ_INVALID_ARGUMENT, mpq_session_step_info(session, 0, NULL));
  CHECK(mpq_session_profile(session, 0) == MPQ_OK);

  MPQ_INIT(&memory);
  CHECK(mpq_session_memory_info(session, &memory) == MPQ_OK);
  CHECK(mpq_session_memory(session) == memory.activations + memory.scratch + memory.weights);
  CHECK(memory.activations > 0 && memory.weights > 0);
  REFUSED(MPQ_INVALID_ARGUMENT, mpq_session_memory_info(session, NULL));

  REFUSED(MPQ_INVALID_ARGUMENT, mpq_session_clone(session, NULL));
  CHECK(mpq_session_clone(session, &clone) == MPQ_OK && clone != session);
  mpq_session_destroy(session);
  REFUSED(MPQ_BAD_HANDLE, mpq_session_run(session));
  CHECK(mpq_session_run(clone) == MPQ_OK);
  mpq_session_destroy(clone);
  mpq_session_destroy(clone);

  MPQ_INIT(&options);
  options.tune = 1;
  CHECK(mpq_session_create(model, &options, &session) == MPQ_OK);
  CHECK(mpq_session_clone(session, &clone) == MPQ_OK);
  mpq_session_destroy(session);
  CHECK(mpq_session_set_input(clone, 0, input, input_bytes) == MPQ_OK);
  CHECK(mpq_session_run(clone) == MPQ_OK);
  CHECK(mpq_session_get_output(clone, 0, output, expected_bytes) == MPQ_OK);
  CHECK(memcmp(output, expected, expected_bytes) == 0);
  mpq_session_destroy(clone);

  MPQ_INIT(&options);
  options.keep_tensors = 1;
  CHECK(mpq_session_create(model, &options, &session) == MPQ_OK);
  CHECK(mpq_session_set_input(session, 0, input, input_bytes) == MPQ_OK);
  CHECK(mpq_session_run(session) == MPQ_OK);
  CHECK(mpq_session_tensor_info(session, "logits.y", &tensor) == MPQ_OK &&
        tensor.bytes == expected_bytes);
  CHECK(mpq_session_get_tensor(session, "logits.y", output, expected_bytes) == MPQ_OK);
  CHECK(memcmp(output, expected, expected_bytes) == 0);
  REFUSED(MPQ_NOT_FOUND, mpq_session_tensor_info(session, "nothing", &tensor));
  REFUSED(MPQ_INVALID_ARGUMENT, mpq_session_tensor_info(session, NULL, &tensor));
  REFUSED(MPQ_INVALID_ARGUMENT, mpq_session_tensor_info(session, "logits.y", NULL));
  REFUSED(MPQ_UNSUPPORTED, mpq_session_get_tensor(session, "stem.w", output, 1));
  REFUSED(MPQ_INVALID_ARGUMENT, mpq_session_get_tensor(session, "logits.y", NULL, expected_bytes));
  REFUSED(MPQ_INVALID_ARGUMENT, mpq_session_get_tensor(session, "logits.y", output, 1));
  REFUSED(MPQ_INVALID_ARGUMENT, mpq_session_get_tensor(session, NULL, output, 1));
  mpq_session_destroy(session);
}

static void test_bad_handles(void) {
  mpq_tensor_info tensor;
  mpq_image_preprocess image;
  mpq_node_info node;
  mpq_precision_map map;
  mpq_precision_layer layer;
  mpq_step_info step;
  mpq_memory_info memory;
  mpq_prepacked_info prepacked;
  struct taken nothing = {0, 0, NULL};
  char buffer[65];
  size_t h, n = 0;
  MPQ_INIT(&tensor);
  MPQ_INIT(&image);
  MPQ_INIT(&node);
  MPQ_INIT(&map);
  MPQ_INIT(&layer);
  MPQ_INIT(&step);
  MPQ_INIT(&memory);
  MPQ_INIT(&prepacked);
  for (h = 0; h < sizeof bad_handles / sizeof *bad_handles; ++h) {
    mpq_model* m = (mpq_model*)bad_handles[h];
    mpq_session* s = (mpq_session*)bad_handles[h];
    mpq_session* made = NULL;
    void* data = NULL;
    const void* out = NULL;
    mpq_model_close(m);
    mpq_session_destroy(s);
    CHECK(mpq_model_name(m) == NULL && mpq_model_producer(m) == NULL);
    CHECK(mpq_model_bytes(m) == 0 && mpq_model_input_count(m) == 0 &&
          mpq_model_output_count(m) == 0);
    CHECK(mpq_model_label_count(m) == 0 && mpq_model_label(m, 0) == NULL);
    CHECK(mpq_model_metadata_count(m) == 0 && mpq_model_metadata_key(m, 0) == NULL);
    CHECK(mpq_model_metadata_value(m, 0) == NULL && mpq_model_metadata_find(m, "a") == NULL);
    CHECK(mpq_model_node_count(m) == 0 && mpq_model_prepacked_count(m) == 0);
    REFUSED(MPQ_BAD_HANDLE, mpq_model_sha256(m, buffer));
    REFUSED(MPQ_BAD_HANDLE, mpq_model_input_info(m, 0, &tensor));
    REFUSED(MPQ_BAD_HANDLE, mpq_model_output_info(m, 0, &tensor));
    REFUSED(MPQ_BAD_HANDLE, mpq_model_find_input(m, "a", &n));
    REFUSED(MPQ_BAD_HANDLE, mpq_model_find_output(m, "a", &n));
    REFUSED(MPQ_BAD_HANDLE, mpq_model_image_preprocess(m, &image));
    REFUSED(MPQ_BAD_HANDLE, mpq_model_node_info(m, 0, &node));
    REFUSED(MPQ_BAD_HANDLE, mpq_model_precision_map(m, &map));
    REFUSED(MPQ_BAD_HANDLE, mpq_model_precision_layer(m, 0, &layer));
    REFUSED(MPQ_BAD_HANDLE, mpq_model_prepacked_info(m, 0, &prepacked));
    REFUSED(MPQ_BAD_HANDLE, mpq_model_prepack(m, "scalar", take, &nothing));
    REFUSED(MPQ_BAD_HANDLE, mpq_session_create(m, NULL, &made));
    REFUSED(MPQ_BAD_HANDLE, mpq_session_clone(s, &made));
    REFUSED(MPQ_BAD_HANDLE, mpq_session_input_info(s, 0, &tensor));
    REFUSED(MPQ_BAD_HANDLE, mpq_session_output_info(s, 0, &tensor));
    REFUSED(MPQ_BAD_HANDLE, mpq_session_set_input(s, 0, buffer, 1));
    REFUSED(MPQ_BAD_HANDLE, mpq_session_input_buffer(s, 0, &data, &n));
    REFUSED(MPQ_BAD_HANDLE, mpq_session_run(s));
    REFUSED(MPQ_BAD_HANDLE, mpq_session_get_output(s, 0, buffer, 1));
    REFUSED(MPQ_BAD_HANDLE, mpq_session_output_buffer(s, 0, &out, &n));
    REFUSED(MPQ_BAD_HANDLE, mpq_session_tensor_info(s, "a", &tensor));
    REFUSED(MPQ_BAD_HANDLE, mpq_session_get_tensor(s, "a", buffer, 1));
    REFUSED(MPQ_BAD_HANDLE, mpq_session_memory_info(s, &memory));
    REFUSED(MPQ_BAD_HANDLE, mpq_session_step_info(s, 0, &step));
    REFUSED(MPQ_BAD_HANDLE, mpq_session_profile(s, 1));
    CHECK(mpq_session_memory(s) == 0 && mpq_session_threads(s) == 0 && mpq_session_batch(s) == 0);
    CHECK(mpq_session_isa(s) == 0 && mpq_session_step_count(s) == 0);
    CHECK(made == NULL && data == NULL && out == NULL && n == 0 && nothing.calls == 0);
  }
}

static void count_messages(void* user, mpq_log_level level, const char* text) {
  (void)level;
  if (text[0] != '\0') ++*(int*)user;
}

int main(int argc, char** argv) {
  unsigned char *file, *input, *expected;
  size_t file_bytes, input_bytes, expected_bytes;
  mpq_model *model = NULL, *other = NULL;
  mpq_session* session = NULL;
  int messages = 0;
  if (argc != 4) return 2;
  file = read_file(argv[1], &file_bytes);
  input = read_file(argv[2], &input_bytes);
  expected = read_file(argv[3], &expected_bytes);

  CHECK(strcmp(mpq_last_error(), "") == 0);
  test_library();
  test_open(argv[1], file, file_bytes);
  CHECK(mpq_model_open(argv[1], NULL, &model) == MPQ_OK);
  test_model(model, file_bytes);
  test_options(model);
  test_session(model, input, input_bytes, expected, expected_bytes);
  test_prepack(model, input, input_bytes, expected, expected_bytes);

  /* Grouped convolution has portable code only: said when the session may use more. */
  mpq_set_log(count_messages, &messages);
  CHECK(mpq_session_create(model, NULL, &session) == MPQ_OK);
  CHECK(mpq_session_isa(session) == 0 || messages > 0);
  mpq_set_log(NULL, NULL);

  CHECK(mpq_model_open(argv[1], NULL, &other) == MPQ_OK);
  mpq_model_close(other);
  bad_handles[1] = (void*)(uintptr_t)0x1234567;
  bad_handles[2] = &messages;
  bad_handles[3] = other;
  test_bad_handles();
  /* Of the other kind. */
  REFUSED(MPQ_BAD_HANDLE, mpq_session_run((mpq_session*)(void*)model));
  CHECK(mpq_model_name((mpq_model*)(void*)session) == NULL);

  /* A session outlives the handle of its model. */
  mpq_model_close(model);
  CHECK(mpq_session_run(session) == MPQ_OK);
  mpq_session_destroy(session);
  free(file);
  free(input);
  free(expected);
  printf("c api: %d failures\n", failures);
  return failures == 0 ? 0 : 1;
}
