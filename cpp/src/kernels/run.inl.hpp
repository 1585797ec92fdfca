// How a block function becomes a kernel: whole blocks, then the rest through the same code on a padded block, so there
// is no second formulation of anything. Text-included once per ISA unit, after its vec.hpp; no guard.
//
// A block function reads block * SrcBytes bytes and writes block * DstBytes; it loads each part before it stores that
// part, in order, which makes in-place narrowing work.

namespace narrowcast {
namespace {

// The one place where a block function is expanded; heads and tails call it too.
template <size_t SrcBytes, size_t DstBytes, class BlockFn>
NC_NOINLINE void run_blocks(const unsigned char* src, unsigned char* dst, size_t blocks, bool stream,
                            const BlockFn& fn) {
    if (stream) {
        for (size_t i = 0; i < blocks; ++i)
            fn(src + i * (block * SrcBytes), dst + i * (block * DstBytes), true);
        fence();
    } else {
        for (size_t i = 0; i < blocks; ++i)
            fn(src + i * (block * SrcBytes), dst + i * (block * DstBytes), false);
    }
}

// Fewer elements than a block.
template <size_t SrcBytes, size_t DstBytes, class BlockFn>
NC_INLINE void run_padded(const unsigned char* src, unsigned char* dst, size_t n, const BlockFn& fn) {
    alignas(64) unsigned char in[block * SrcBytes] = {};
    alignas(64) unsigned char out[block * DstBytes];
    NC_COPY(in, src, n * SrcBytes);
    run_blocks<SrcBytes, DstBytes>(in, out, 1, false, fn);
    NC_COPY(dst, out, n * DstBytes);
}

template <size_t SrcBytes, size_t DstBytes, class BlockFn>
NC_INLINE void run(const void* source, void* target, size_t n, bool stream, const BlockFn& fn) {
    const unsigned char* src = static_cast<const unsigned char*>(source);
    unsigned char* dst = static_cast<unsigned char*>(target);
    if (stream) { // non-temporal stores want the vector's alignment: a short first block brings it about
        const size_t misaligned = reinterpret_cast<uintptr_t>(dst) % 64;
        const size_t head = misaligned == 0 ? 0 : (64 - misaligned) / DstBytes;
        if (misaligned % DstBytes != 0 || n < 64 + block) {
            stream = false;
        } else if (head != 0) {
            for (size_t done = 0; done < head; done += block) {
                const size_t count = head - done < block ? head - done : static_cast<size_t>(block);
                run_padded<SrcBytes, DstBytes>(src + done * SrcBytes, dst + done * DstBytes, count, fn);
            }
            src += head * SrcBytes;
            dst += head * DstBytes;
            n -= head;
        }
    }
    const size_t blocks = n / block, rest = n % block;
    if (blocks != 0)
        run_blocks<SrcBytes, DstBytes>(src, dst, blocks, stream, fn);
    if (rest != 0)
        run_padded<SrcBytes, DstBytes>(src + blocks * block * SrcBytes, dst + blocks * block * DstBytes, rest, fn);
}

} // namespace
} // namespace narrowcast
