// For the test of check_isa_symbols.sh: an inline function that leaves its object.
inline int shared_by_accident(int x) { return x + 1; }
int (*keep_a_copy())(int) { return shared_by_accident; }
