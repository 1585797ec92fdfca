// Replays a kept fuzzing corpus through a fuzz target, which the including file includes: under any compiler, sanitizer
// or emulator, without libFuzzer.
#pragma once

#include <stdint.h>
#include <stdio.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace narrowcast::test {

// Takes files; without arguments, all of the folder cpp/fuzz/`corpus`. The exit status of main.
inline int replay(int argc, char** argv, const char* corpus) {
    std::vector<std::filesystem::path> paths(argv + 1, argv + argc);
    if (paths.empty())
        for (const auto& entry :
             std::filesystem::directory_iterator(std::filesystem::path(__FILE__).parent_path() / "../fuzz" / corpus))
            paths.push_back(entry.path());
    for (const std::filesystem::path& path : paths) {
        std::ifstream file(path, std::ios::binary);
        if (!file) {
            fprintf(stderr, "cannot read %s\n", path.string().c_str());
            return 1;
        }
        const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
        LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
    }
    printf("%zu passed, 0 failed\n", paths.size()); // a failure aborts
    return paths.empty() ? 1 : 0;
}

} // namespace narrowcast::test
