// Rows of a rectangle as the kernels of quantization take them: in blocks, several rows as one run where they follow
// each other. Text-included once per ISA unit, before quantize.inl.hpp; no guard.

namespace narrowcast {
namespace {

// Calls piece(i, count, stream) for the items of a row, `count` of them from number i on: whole blocks, or less than
// one where a row ends or the first whole vector of aligned memory begins.
template <size_t Item, class Piece>
NC_INLINE void in_blocks(const unsigned char* to, size_t n, bool stream, const Piece& piece) {
    size_t head = 0;
    if (stream) {
        const size_t misaligned = reinterpret_cast<uintptr_t>(to) % block;
        stream = misaligned % Item == 0 && n >= size_t{2} * block;
        head = misaligned == 0 ? 0 : (block - misaligned) / Item;
    }
    for (size_t i = 0; i < n;) {
        const size_t rest = i == 0 && stream && head != 0 ? head : n - i;
        const size_t count = rest < block ? rest : rest - rest % block;
        piece(i, count, stream && rest >= block);
        i += count;
    }
}

NC_INLINE const unsigned char* row_at(const void* base, ptrdiff_t step, size_t row) {
    return static_cast<const unsigned char*>(base) + static_cast<ptrdiff_t>(row) * step;
}
NC_INLINE unsigned char* row_at(void* base, ptrdiff_t step, size_t row) {
    return static_cast<unsigned char*>(base) + static_cast<ptrdiff_t>(row) * step;
}

NC_INLINE U splat_float(float a) {
    uint32_t bits;
    NC_COPY(&bits, &a, sizeof bits);
    return splat(bits);
}

// Rows that follow each other without a gap are one run, if their length is a power of two: 2^shift items to a row. A
// run that begins inside of a vector of memory to be streamed has blocks across rows: then rows are left alone.
enum : size_t { no_shift = 63 };
template <size_t Item> NC_INLINE size_t joined_shift(const Rectangle& r, size_t src_item, const void* to, bool stream) {
    size_t shift = 0;
    while ((size_t{1} << shift) < r.cols && shift < no_shift)
        ++shift;
    const bool joined = r.cols >= lanes && (size_t{1} << shift) == r.cols &&
                        r.src_step == static_cast<ptrdiff_t>(r.cols * src_item) &&
                        r.dst_step == static_cast<ptrdiff_t>(r.cols * Item) &&
                        !(stream && reinterpret_cast<uintptr_t>(to) % block != 0);
    return joined ? shift : size_t{no_shift};
}

} // namespace
} // namespace narrowcast
