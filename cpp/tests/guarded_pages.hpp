// Memory that ends a test when it is touched outside, for checking what kernels read; and that shows what they wrote.
#pragma once

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>

namespace narrowcast::test {

// Whole pages with an inaccessible one on each side.
class GuardedPages {
public:
    explicit GuardedPages(size_t bytes) : page_(static_cast<size_t>(sysconf(_SC_PAGESIZE))) {
        size_ = (bytes + page_ - 1) / page_ * page_;
        void* all = mmap(nullptr, size_ + 2 * page_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (all == MAP_FAILED || mprotect(static_cast<unsigned char*>(all) + page_, size_, PROT_READ | PROT_WRITE) != 0)
            abort();
        begin_ = static_cast<unsigned char*>(all) + page_;
    }
    ~GuardedPages() { munmap(begin_ - page_, size_ + 2 * page_); }
    GuardedPages(const GuardedPages&) = delete;
    GuardedPages& operator=(const GuardedPages&) = delete;

    // Where `bytes` bytes begin that touch the guard behind them, or the one before.
    unsigned char* place(size_t bytes, bool at_end) const { return at_end ? begin_ + size_ - bytes : begin_; }
    void clear() { memset(begin_, canary, size_); }
    bool clean_around(const unsigned char* from, size_t bytes) const {
        const auto is_canary = [](unsigned char byte) { return byte == canary; };
        return std::all_of(begin_, const_cast<unsigned char*>(from), is_canary) &&
               std::all_of(from + bytes, static_cast<const unsigned char*>(begin_ + size_), is_canary);
    }

private:
    static constexpr unsigned char canary = 0xa5;
    size_t page_, size_ = 0;
    unsigned char* begin_ = nullptr;
};

} // namespace narrowcast::test
