// Single items in memory of any alignment and either byte order.
#pragma once

#include <stdint.h>
#include <string.h>

namespace narrowcast {

template <class T> constexpr T byte_swap(T value) noexcept {
    if constexpr (sizeof(T) == 1) {
        return value;
    } else if constexpr (sizeof(T) == 2) {
        return static_cast<T>(value << 8 | value >> 8);
    } else if constexpr (sizeof(T) == 4) {
        return value >> 24 | (value >> 8 & 0xff00u) | (value << 8 & 0xff0000u) | value << 24;
    } else {
        return T{byte_swap(static_cast<uint32_t>(value))} << 32 | byte_swap(static_cast<uint32_t>(value >> 32));
    }
}

template <class T> T load_item(const unsigned char* from, bool swapped) noexcept {
    T value;
    memcpy(&value, from, sizeof value);
    return swapped ? byte_swap(value) : value;
}

template <class T> void store_item(unsigned char* to, T value, bool swapped) noexcept {
    if (swapped)
        value = byte_swap(value);
    memcpy(to, &value, sizeof value);
}

} // namespace narrowcast
