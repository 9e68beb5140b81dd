// Shows our pixels to check_pillow.py: reads lines `decode PATH` or `resize PATH WIDTH HEIGHT
// METHOD` and answers each with `width height\n` and the RGB bytes, or `error MESSAGE\n`.
#include <cstdio>
#include <iostream>
#include <sstream>
#include <string>

#include "converter/data/image.h"

int main() {
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    std::string verb, path;
    words >> verb >> path;
    auto image = mpq::data::load_image(path);
    if (!image) {
      std::cout << "error " << image.error().message << "\n" << std::flush;
      continue;
    }
    if (verb == "resize") {
      uint32_t width = 0, height = 0;
      int method = 0;
      words >> width >> height >> method;
      *image = mpq::data::resize(*image, width, height,
                                 static_cast<mpq::format::ImagePreprocess::Resize>(method));
    }
    std::cout << image->width << " " << image->height << "\n";
    std::cout.write(reinterpret_cast<const char*>(image->rgb.data()),
                    static_cast<std::streamsize>(image->rgb.size()));
    std::cout.flush();
  }
}
