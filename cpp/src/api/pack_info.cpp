// The facts of pack layouts, as the C interface gives them; what a layout means is in codec/packing.hpp.
#include <string.h>

#include "api/options.hpp"
#include "api/pack_layout.hpp"

using namespace narrowcast;

int32_t nc_layout_at(int32_t position) noexcept {
    const PackLayout* const row = pack_layout_at(position);
    return row != nullptr ? row->layout : int32_t{NC_LAYOUT_INVALID};
}

nc_status nc_layout_get_info(int32_t layout, nc_layout_info* info) noexcept {
    const PackLayout* const row = find_pack_layout(layout);
    if (info == nullptr || info->size < sizeof info->size || row == nullptr)
        return NC_ERROR_ARGUMENT;
    int32_t least = 1, most = most_code_bits;
    while (!has_width(*row, least))
        ++least;
    while (!has_width(*row, most))
        --most;
    const nc_layout_info facts{sizeof facts,
                               row->name,
                               row->layout,
                               least,
                               most,
                               static_cast<int32_t>(row->widths),
                               row->word_bits,
                               row->axis,
                               row->biased ? 1 : 0,
                               row->order == PackOrder::tiles ? 64 : 1};
    copy_info(facts, *info);
    return NC_OK;
}

int32_t nc_layout_from_name(const char* name) noexcept {
    if (name != nullptr)
        for (int32_t position = 0; const PackLayout* row = pack_layout_at(position); ++position)
            if (strcmp(name, row->name) == 0)
                return row->layout;
    return NC_LAYOUT_INVALID;
}

nc_status nc_packed_bytes(size_t n, int32_t bits, int32_t layout, size_t* bytes) noexcept {
    const PackLayout* const row = find_pack_layout(layout);
    if (bytes == nullptr || row == nullptr || !has_width(*row, bits) || n > most_codes)
        return NC_ERROR_ARGUMENT;
    *bytes = packed_line_bytes(*row, bits, n);
    return NC_OK;
}

int32_t nc_layout_granule(int32_t layout, int32_t bits) noexcept {
    const PackLayout* const row = find_pack_layout(layout);
    return row != nullptr && has_width(*row, bits) ? static_cast<int32_t>(packed_line_granule(*row, bits)) : 0;
}
