// Replays the kept corpus of fuzz_pack without libFuzzer: see replay.hpp.
#include "../fuzz/fuzz_pack.cpp"
#include "replay.hpp"

int main(int argc, char** argv) { return narrowcast::test::replay(argc, argv, "corpus_pack"); }
