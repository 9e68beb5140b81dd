// What the fuzzer and the replay of its corpus run on arbitrary bytes.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mpq::test {

// Reads the bytes as a model file: as they are, and with the sizes and digests of header and
// segments made right, so that what lies behind those checks is reached. Aborts when a model that
// loads is unsound: data outside the file, or not readable back after writing.
void fuzz_model(const uint8_t* data, size_t size);

}  // namespace mpq::test
