#include "format/checks.h"

#include <utility>

namespace mpq::format {
namespace {

constexpr CheckInfo kChecks[] = {
#define MPQ_X(enumerator, id, status, rule) {id, Status::status, rule},
    MPQ_FORMAT_CHECKS(MPQ_X)
#undef MPQ_X
};

}  // namespace

int check_count() { return static_cast<int>(std::size(kChecks)); }

const CheckInfo& info(Check check) { return kChecks[static_cast<int>(check)]; }

Error failure(Check check, std::string message) {
  message += " [";
  message += info(check).id;
  message += ']';
  return {info(check).status, std::move(message)};
}

#ifdef MPQ_CHECK_MUTATION
namespace {
int switched_off = -1;
}
bool enforced(Check check) { return static_cast<int>(check) != switched_off; }
void switch_off(int check) { switched_off = check; }
#endif

}  // namespace mpq::format
