// Replays the kept corpus of fuzz_quantize without libFuzzer: see replay.hpp.
#include "../fuzz/fuzz_quantize.cpp"
#include "replay.hpp"

int main(int argc, char** argv) { return narrowcast::test::replay(argc, argv, "corpus_quantize"); }
