#include "tests/cuda/ptx/kernel_texts.h"

#include <filesystem>
#include <fstream>
#include <sstream>

namespace mpq::test {

Result<KernelTexts> KernelTexts::read(const std::string& folder, uint32_t arch) {
  KernelTexts texts;
  std::string suffix = "_";
  suffix.append(std::to_string(arch)).append(".ptx");
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator(folder, none)) {
    if (!entry.path().string().ends_with(suffix)) continue;
    std::ostringstream all;
    all << std::ifstream(entry.path()).rdbuf();
    const std::string text = all.str();
    constexpr std::string_view kEntry = ".visible .entry ";
    size_t at = text.find(kEntry);
    const std::string head = text.substr(0, at);
    while (at != std::string::npos) {
      const size_t name = at + kEntry.size(), next = text.find(kEntry, name);
      texts.texts_[text.substr(name, text.find('(', name) - name)] =
          head + text.substr(at, next == std::string::npos ? next : next - at);
      at = next;
    }
  }
  if (texts.texts_.empty()) return Error{Status::kNotFound, folder + ": no *" + suffix};
  return texts;
}

const std::string* KernelTexts::find(std::string_view kernel) const {
  const auto found = texts_.find(kernel);
  return found == texts_.end() ? nullptr : &found->second;
}

}  // namespace mpq::test
