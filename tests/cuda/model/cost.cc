#include "tests/cuda/model/cost.h"

#include <algorithm>

#include "tests/cuda/emulated.h"
#include "tests/cuda/emulator/machine.h"
#include "tests/cuda/ptx/program.h"

namespace mpq::test {
namespace {

// The first row that an opcode begins with. Where ptxas writes more than one instruction, as many;
// 64-bit integers are two of 32 bits.
struct Row {
  const char* prefix;
  Instructions units;  // issued, integer, floating, conversions
};
constexpr Instructions kFree = {}, kMove = {1}, kInteger = {1, 1}, kWide = {2, 2},
                       kFloat = {1, 0, 1}, kConversion = {1, 0, 0, 1}, kProduct = {1, 0, 1},
                       // Half of them go to the unit of floats, which multiplies and adds integers.
    kEither = {1, 0.5, 0.5};
// clang-format off
constexpr Row kRows[] = {
    // Constant banks and renamed registers cost nothing, nor predicates that a comparison combines.
    {"ld.param", kFree}, {"mov.", kFree}, {"cvta", kFree}, {"cvt.u64.u32", kFree}, {"cvt.u32.u64", kFree}, {"cvt.u32.u16", kFree},
    {"and.pred", kFree}, {"or.pred", kFree}, {"xor.pred", kFree}, {"not.pred", kFree},
    {"ld.", kMove}, {"st.", kMove}, {"red.", kMove}, {"atom.", kMove}, {"cp.async.", kMove}, {"ldmatrix.", kMove}, {"mma.", kMove},
    {"shfl.", kMove}, {"bar.", kMove}, {"membar.", kMove}, {"fence.", kMove}, {"bra", kMove}, {"ret", kMove}, {"exit", kMove}, {"end", kFree},
    {"cvt.rn.f32.s32", kConversion}, {"cvt.rni", kConversion}, {"cvt.s64.s32", kInteger}, {"cvt.s32.s8", kInteger},
    // Subroutines of about so many; the reciprocal is of the unit that converts.
    {"div.rn.f32", {10, 1, 8, 1}}, {"sqrt.rn.f32", {9, 1, 7, 1}}, {"div.u32", {16, 10, 3, 3}}, {"rem.u32", {16, 10, 3, 3}},
    {"fma.", kFloat}, {"add.rn.f32", kFloat}, {"sub.rn.f32", kFloat}, {"mul.rn.f32", kFloat},
    {"mul.wide", {2, 0, 2}}, {"mad.wide", {2, 0, 2}}, {"mul.lo.s64", {3, 0, 3}}, {"mul.lo.s32", kProduct}, {"mad.lo.s32", kProduct},
    {"add.s32", kEither}, {"sub.s32", kEither}, {"shl.b32", kEither},
    {"abs.s64", {4, 4}}, {"add.s64", kWide}, {"sub.s64", kWide}, {"and.b64", kWide}, {"or.b64", kWide}, {"shl.b64", kWide}, {"shr.s64", kWide},
    {"shr.u64", kWide}, {"neg.s64", kWide}, {"setp.eq.s64", kWide}, {"setp.ne.s64", kWide}, {"setp.lt.s64", kWide}, {"setp.gt.s64", kWide}, {"selp.b64", kWide},
    {"and.b32", kInteger}, {"or.b32", kInteger}, {"xor.b32", kInteger}, {"not.b32", kInteger}, {"shr.", kInteger}, {"setp.", kInteger}, {"selp.", kInteger},
    {"min.", kInteger}, {"max.", kInteger}, {"abs.", kInteger}, {"neg.", kInteger}, {"prmt.", kInteger}, {"bfi.", kInteger}, {"bfe.", kInteger}, {"shf.", kInteger}, {"lop3.", kInteger},
};
// clang-format on

void add(Instructions* to, const Instructions& units, double times) {
  to->issued += units.issued * times;
  to->integer += units.integer * times;
  to->floating += units.floating * times;
  to->conversions += units.conversions * times;
}

// The blocks of one tile in the middle of the grid's rows, all parts of k.
std::vector<uint32_t> middle_blocks(const Step& step) {
  const uint32_t x = step.grid.x > 2 ? step.grid.x / 2 : 0;
  std::vector<uint32_t> blocks;
  for (uint32_t z = 0; z < step.splits; ++z) blocks.push_back(z * step.grid.x * step.grid.y + x);
  return blocks;
}

}  // namespace

const Instructions* units_of(std::string_view opcode) {
  for (const Row& row : kRows)
    if (opcode.starts_with(row.prefix)) return &row.units;
  return nullptr;
}

Result<Counter::Kernel*> Counter::kernel(const std::string& name, uint32_t code) {
  std::unique_ptr<Kernel>& found = kernels_[{code, name}];
  if (found != nullptr) return found.get();
  KernelTexts& texts = texts_[code];
  if (texts.all().empty()) {
    MPQ_TRY(texts, KernelTexts::read(folder_, code));
  }
  const std::string* text = texts.find(name);
  if (text == nullptr) return Error{Status::kNotFound, "no PTX of kernel " + name};
  MPQ_TRY(const ptx::Module module, ptx::parse(*text));
  ptx::Memory memory;
  MPQ_TRY(auto executable, ptx::Executable::load(module, name, memory));
  found = std::make_unique<Kernel>(Kernel{std::move(memory), std::move(executable)});
  return found.get();
}

Result<BlockCost> Counter::count(const Step& step, uint32_t code, uint32_t machine_code) {
  const std::vector<uint32_t> blocks = middle_blocks(step);
  const uint32_t shared = code < 80 ? step.shared_bytes_sm75 : step.shared_bytes;
  BlockCost cost;

  const Architecture* arch = nullptr;
  for (const Architecture& a : kArchitectures)
    if (a.arch == code) arch = &a;
  Launch launch = {step.kernel,        emulated(*arch, step.kernel),
                   step.params.data(), step.grid.x,
                   step.grid.y,        step.grid.z,
                   step.threads,       shared};
  LaunchOptions options;
  options.copies = Copies::kEarly;
  options.seed = 0;
  options.count_transactions = true;
  options.blocks = blocks;
  const Outcome outcome = run(launch, step.device->memory, options);
  if (!outcome.error.empty()) return Error{Status::kInternal, step.layer + ": " + outcome.error};
  const Counters& c = outcome.counters;
  const auto each = [&](uint64_t count) {
    return static_cast<double>(count) / static_cast<double>(blocks.size());
  };
  cost.products_4bit = each(c.products_4bit);
  cost.products_8bit = each(c.products_8bit);
  cost.shared_passes = each(c.shared_passes + c.ldmatrix_passes + c.copies * 16 / 128);
  cost.global_bytes = 32 * each(c.read_sectors + c.written_sectors);
  cost.barriers = each(c.barriers);
  cost.loads = each(c.read_requests) - each(c.copies) / 32;

  MPQ_TRY(Kernel * k, kernel(step.kernel, code));
  std::vector<uint64_t> mapped;
  step.device->memory.for_each_array([&](const uint8_t* begin, size_t bytes) {
    const auto address = reinterpret_cast<uint64_t>(begin);
    if (bytes != 0 && k->memory.map_at(address, {const_cast<uint8_t*>(begin), bytes}, true))
      mapped.push_back(address);
  });
  ptx::RunOptions run_options;
  run_options.blocks = blocks;
  std::vector<uint64_t> executed;
  run_options.executed = &executed;
  const auto counted = k->executable.run(
      {{step.grid.x, step.grid.y, step.grid.z}, {step.threads, 1, 1}, shared, step.params},
      k->memory, run_options);
  for (const uint64_t address : mapped) k->memory.release(address);
  if (!counted.ok()) return Error{Status::kInternal, step.layer + ": " + counted.error().message};
  const ptx::Program& program = k->executable.program();
  double all = 0;  // of the kernel's PTX
  for (const std::string& opcode : program.opcodes) {
    const Instructions* units = units_of(opcode);
    if (units == nullptr)
      return Error{Status::kUnsupported, opcode + ": no unit is known to do it"};
    all += units->issued;
  }
  // Not where ptxas unrolls loops that nvcc left.
  const double scale = std::min(1.0, machine_code / all);
  for (size_t i = 0; i < executed.size(); ++i)
    add(&cost.instructions, *units_of(program.opcodes[i]), scale * each(executed[i]));
  return cost;
}

}  // namespace mpq::test
