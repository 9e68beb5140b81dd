#include "tests/cuda/ptx/flow.h"

#include <algorithm>

namespace mpq::ptx {
namespace {

constexpr uint32_t kUnknown = ~0U;

struct BasicBlock {
  uint32_t begin, end;
  std::vector<uint32_t> next;
};

// Blocks in order, and a last one without instructions that stands for the end.
std::vector<BasicBlock> basic_blocks(const std::vector<Inst>& code,
                                     std::vector<uint32_t>* block_of) {
  const auto n = static_cast<uint32_t>(code.size());
  std::vector<bool> leads(n + 1, false);
  leads[0] = leads[n] = true;
  for (uint32_t i = 0; i < n; ++i) {
    if (code[i].flow == Flow::kBranch) leads[code[i].target] = true;
    if (code[i].flow == Flow::kBranch || code[i].flow == Flow::kExit) leads[i + 1] = true;
  }
  std::vector<BasicBlock> blocks;
  block_of->assign(n + 1, 0);
  for (uint32_t i = 0; i <= n; ++i) {
    if (leads[i]) blocks.push_back({i, i, {}});
    if (i < n) blocks.back().end = i + 1;
    (*block_of)[i] = static_cast<uint32_t>(blocks.size()) - 1;
  }
  const auto end = static_cast<uint32_t>(blocks.size()) - 1;
  for (uint32_t b = 0; b < end; ++b) {
    const Inst& last = code[blocks[b].end - 1];
    const bool falls = (last.flow != Flow::kBranch && last.flow != Flow::kExit) || last.guarded;
    if (last.flow == Flow::kBranch) blocks[b].next.push_back((*block_of)[last.target]);
    if (last.flow == Flow::kExit) blocks[b].next.push_back(end);
    if (falls) blocks[b].next.push_back(b + 1);
  }
  return blocks;
}

// Post-order of the reversed graph from the end: the end comes last.
std::vector<uint32_t> reverse_post_order(const std::vector<BasicBlock>& blocks) {
  std::vector<std::vector<uint32_t>> before(blocks.size());
  for (uint32_t b = 0; b < blocks.size(); ++b)
    for (const uint32_t next : blocks[b].next) before[next].push_back(b);
  std::vector<uint32_t> order;
  std::vector<bool> seen(blocks.size(), false);
  std::vector<std::pair<uint32_t, size_t>> stack{{static_cast<uint32_t>(blocks.size()) - 1, 0}};
  seen.back() = true;
  while (!stack.empty()) {
    auto& [b, i] = stack.back();
    if (i == before[b].size()) {
      order.push_back(b);
      stack.pop_back();
      continue;
    }
    const uint32_t p = before[b][i++];
    if (!seen[p]) {
      seen[p] = true;
      stack.emplace_back(p, 0);
    }
  }
  std::reverse(order.begin(), order.end());
  return order;
}

}  // namespace

bool find_reconvergence(std::vector<Inst>* code) {
  for (const Inst& i : *code)
    if (i.flow == Flow::kBranch && i.target >= code->size()) return false;
  std::vector<uint32_t> block_of;
  const std::vector<BasicBlock> blocks = basic_blocks(*code, &block_of);
  const std::vector<uint32_t> order = reverse_post_order(blocks);
  std::vector<uint32_t> rank(blocks.size(), kUnknown), dominator(blocks.size(), kUnknown);
  for (uint32_t i = 0; i < order.size(); ++i) rank[order[i]] = i;
  const auto end = static_cast<uint32_t>(blocks.size()) - 1;
  dominator[end] = end;
  for (bool changed = true; changed;) {
    changed = false;
    for (const uint32_t b : order) {
      if (b == end) continue;
      uint32_t common = kUnknown;
      for (uint32_t next : blocks[b].next) {
        if (dominator[next] == kUnknown) continue;
        if (common == kUnknown) {
          common = next;
          continue;
        }
        while (common != next) {
          while (rank[common] > rank[next]) common = dominator[common];
          while (rank[next] > rank[common]) next = dominator[next];
        }
      }
      changed |= dominator[b] != common;
      dominator[b] = common;
    }
  }
  for (uint32_t i = 0; i < code->size(); ++i) {
    if ((*code)[i].flow != Flow::kBranch) continue;
    const uint32_t d = dominator[block_of[i]];
    (*code)[i].reconverge = d == kUnknown ? static_cast<uint32_t>(code->size()) : blocks[d].begin;
  }
  return true;
}

}  // namespace mpq::ptx
