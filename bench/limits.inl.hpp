// The limit loop, written once; text-included by each limits_<isa>.cpp inside its anonymous namespace, after it has
// defined the vocabulary:
//     vec                          a register (or a pair)
//     width                        its bytes
//     load(p)  merge(a, b)         any alignment; bitwise OR
//     store(p, v)                  any alignment
//     stream(p, v)  fence()        non-temporal, p aligned to `width`; after the last of them
// No include guard, no standard headers: nothing from here may be shared between units with different flags.

// The few items before an aligned destination and after the last whole block.
void move_items(const uint8_t* source, uint8_t* destination, size_t count, uint32_t s, uint32_t d) {
    for (size_t i = 0; i < count; ++i, source += s, destination += d) {
        uint8_t bytes[8] = {};
        for (uint32_t k = 0; k < s; ++k)
            bytes[k % d] = static_cast<uint8_t>(bytes[k % d] | source[k]);
        for (uint32_t k = 0; k < d; ++k)
            destination[k] = bytes[k % s];
    }
}

// Blocks of `loads` source registers and `stores` destination registers. Each register that is stored has been loaded;
// surplus loads are merged into it, and a register is stored again where there are fewer loads than stores.
template <size_t loads, size_t stores, bool streaming>
void move_blocks(const uint8_t* source, uint8_t* destination, size_t blocks) {
    constexpr size_t kept = loads < stores ? loads : stores;
    for (; blocks != 0; --blocks, source += loads * width, destination += stores * width) {
        vec v[kept];
        for (size_t i = 0; i < kept; ++i)
            v[i] = load(source + i * width);
        for (size_t i = kept; i < loads; ++i)
            v[i % kept] = merge(v[i % kept], load(source + i * width));
        for (size_t i = 0; i < stores; ++i) {
            if constexpr (streaming)
                stream(destination + i * width, v[i % kept]);
            else
                store(destination + i * width, v[i % kept]);
        }
    }
    if constexpr (streaming)
        fence();
}

template <size_t loads, size_t stores, bool streaming> void move_ratio(const Job& job) {
    const size_t s = job.source_bytes;
    const size_t d = job.destination_bytes;
    const uint8_t* source = job.source;
    uint8_t* destination = job.destination;
    size_t count = job.count;

    if constexpr (streaming) {
        const size_t past = reinterpret_cast<uintptr_t>(destination) % width;
        const size_t gap = past == 0 ? 0 : width - past;
        if (gap % d != 0) // no item of this destination is aligned
            return move_ratio<loads, stores, false>(job);
        const size_t head = gap / d < count ? gap / d : count;
        move_items(source, destination, head, job.source_bytes, job.destination_bytes);
        source += head * s;
        destination += head * d;
        count -= head;
    }
    const size_t block_items = loads * width / s;
    const size_t blocks = count / block_items;
    const size_t done = blocks * block_items;
    move_blocks<loads, stores, streaming>(source, destination, blocks);
    move_items(source + done * s, destination + done * d, count - done, job.source_bytes, job.destination_bytes);
}

template <bool streaming> void move(const Job& job) {
    if (job.source_bytes == job.destination_bytes)
        return move_ratio<4, 4, streaming>(job);
    if (job.destination_bytes == 3)
        return job.source_bytes == 4 ? move_ratio<4, 3, streaming>(job) : move_ratio<8, 3, streaming>(job);
    if (job.source_bytes == 3)
        return job.destination_bytes == 4 ? move_ratio<3, 4, streaming>(job) : move_ratio<3, 8, streaming>(job);
    if (job.source_bytes > job.destination_bytes) {
        switch (job.source_bytes / job.destination_bytes) {
        case 2: return move_ratio<4, 2, streaming>(job);
        case 4: return move_ratio<8, 2, streaming>(job);
        default: return move_ratio<8, 1, streaming>(job);
        }
    }
    switch (job.destination_bytes / job.source_bytes) {
    case 2: return move_ratio<2, 4, streaming>(job);
    case 4: return move_ratio<2, 8, streaming>(job);
    default: return move_ratio<1, 8, streaming>(job);
    }
}
