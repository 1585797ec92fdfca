// Float codes take a step more: quotients as float32, over the raw elements that are used up by then, and their cast.
#include "api/code_maker.hpp"

#include <algorithm>
#include <iterator>

#include "api/bytes.hpp"

namespace narrowcast {

Rows CodeMaker::make(const Batch& batch, const Chunk& chunk, const Rows& rows, const QuantizeParams& params,
                     bool stream) noexcept {
    const bool is_float = items_.is_float(), in_place = direct(batch.col.codes);
    const size_t item = is_float ? sizeof(float) : items_.item();
    Rows made{is_float ? tiles_.raw : tiles_.codes, static_cast<ptrdiff_t>(chunk.cols * item)};
    if (in_place)
        made = {items_.at(request_.codes.data, chunk.at.codes), static_cast<ptrdiff_t>(batch.row.codes)};
    for_each_span(along_, batch, chunk, [&](const Span& span) {
        const auto across = static_cast<ptrdiff_t>(span.cols);
        const Rectangle rectangle{span.rows, span.cols,
                                  span.own_rows ? rows.step : across * static_cast<ptrdiff_t>(sizeof(float)),
                                  span.own_rows ? made.step : across * static_cast<ptrdiff_t>(item)};
        quantize_(rows.data + span.at * sizeof(float), made.data + span.at * item, rectangle, params.from(span.param),
                  rule_, in_place && stream);
    });
    if (!is_float)
        return made;
    table_.direct[hub_f32][items_.float_format()][1](tiles_.raw, tiles_.codes, chunk.rows * chunk.cols, false);
    return {tiles_.codes, static_cast<ptrdiff_t>(chunk.cols)};
}

void CodeMaker::add_sums(const Batch& batch, const Chunk& chunk, const Rows& codes) noexcept {
    unsigned char* to = request_.sums.data + chunk.at.sums;
    const bool swapped = request_.sums.swapped;
    int32_t sums[64];
    for (size_t row = 0; row < chunk.rows; row += std::size(sums)) {
        const size_t rows = std::min(std::size(sums), chunk.rows - row);
        std::fill_n(sums, rows, 0);
        table_.code_sums(codes.data + static_cast<ptrdiff_t>(row) * codes.step, {rows, chunk.cols, codes.step, 0},
                         static_cast<int32_t>(items_.item()), request_.options.is_signed != 0, sums);
        for (size_t i = 0; i < rows; ++i, to += batch.row.sums) {
            // Sums wrap like any int32 arithmetic of a processor.
            const uint32_t before = chunk.begins_line ? 0 : load_item<uint32_t>(to, swapped);
            store_item(to, before + static_cast<uint32_t>(sums[i]), swapped);
        }
    }
}

void CodeMaker::put(const Batch& batch, const Chunk& chunk, bool stream) noexcept {
    if (request_.codes.data == nullptr || direct(batch.col.codes))
        return;
    items_.write(items_.view(request_.codes.data, batch, chunk), tiles_.codes, stream);
}

} // namespace narrowcast
