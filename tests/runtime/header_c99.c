/* The public header alone, twice, as strict C99. */
#include "runtime/mpq.h"

int mpq_header_is_c99(void);
int mpq_header_is_c99(void) {
  mpq_options options;
  MPQ_INIT(&options);
  return options.struct_size == sizeof options && options.batch == 0;
}
