// The integer meaning of NVIDIA's W4A4 ResNet-50, written a second time: plain loops over the
// release's own files, in the source's own arithmetic (multiply, add half, shift). It shares no
// code with the importer, the model file or the runtime, so that agreement says something.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace mpq::oracle {

class W4a4 {
 public:
  // root: the folder that holds model/. False when a file is missing or short.
  bool load(const std::string& root);

  // pixels: 224 x 224 RGB, NHWC. Returns the classifier's 1000 accumulators.
  std::vector<int32_t> run(const uint8_t* pixels) const;

 private:
  struct Conv {
    int in = 0, out = 0, kernel = 1, stride = 1, pad = 0;
    std::vector<int32_t> weight, bias;
  };
  struct Factor {
    std::vector<int32_t> f;
    int shift = 16;
  };
  struct Block {
    Conv conv1, conv2, conv3, down;
    Factor q1, q2, q3, d1, d2;  // d2 scales the skip
    bool first = false;
  };
  struct Map {  // C x side x side
    int channels = 0, side = 0;
    std::vector<int32_t> v;
  };
  bool load_conv(const std::string& name, int in, int out, int kernel, int stride, int bits,
                 Conv* conv);
  bool load_factor(const std::string& name, int channels, Factor* factor);
  static Map convolve(const Conv& conv, const Map& x);

  std::string root_;
  Conv conv1_;
  Factor q1_;
  std::vector<Block> blocks_;
  std::vector<int32_t> fc_weight_, fc_bias_;
};

}  // namespace mpq::oracle
