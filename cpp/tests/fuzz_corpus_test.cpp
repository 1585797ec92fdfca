// Replays the kept corpus of fuzz_cast without libFuzzer: see replay.hpp.
#include "../fuzz/fuzz_cast.cpp"
#include "replay.hpp"

int main(int argc, char** argv) { return narrowcast::test::replay(argc, argv, "corpus"); }
