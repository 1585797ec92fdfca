// Two dialects take a second pass over the tile: llm_int8 multiplies by a constant in the end, and quanto's shift is
// taken from a product that was rounded to the scale's format.
#include "api/value_maker.hpp"

#include <algorithm>
#include <array>

#include "api/format_table.hpp"

namespace narrowcast {
namespace {

constexpr size_t hub_items[hub_count] = {4, 2, 2};
constexpr size_t kind_bits[code_kinds] = {8, 8, 32, 4, 4};

} // namespace

ValueMaker::ValueMaker(const KernelTable& table, const Operand& out, CodeKind kind, const Arithmetic& arithmetic,
                       Along along, unsigned char* tile, unsigned char* raw) noexcept
    : table_(table), arithmetic_(arithmetic), out_(table, out, hub_f32), kind_(kind), along_(along),
      in_steps_(arithmetic.fused_scale != 1 || arithmetic.dequant_hub != hub_f32), tile_(tile), raw_(raw) {}

void ValueMaker::run(DequantizeFn kernel, const Batch& batch, const Chunk& chunk, const Rows& codes, size_t code_bits,
                     const Rows& to, size_t item, const DequantizeParams& params, bool stream) const noexcept {
    for_each_span(along_, batch, chunk, [&](const Span& span) {
        const Rectangle rectangle{span.rows, span.cols,
                                  span.own_rows ? codes.step : static_cast<ptrdiff_t>(span.cols * code_bits / 8),
                                  span.own_rows ? to.step : static_cast<ptrdiff_t>(span.cols * item)};
        const size_t i = span.param;
        const DequantizeParams own{params.scale + i, params.zero + i,
                                   params.bias != nullptr ? params.bias + i : nullptr, params.fused};
        kernel(codes.data + span.at * code_bits / 8, to.data + span.at * item, rectangle, own, stream);
    });
}

void ValueMaker::in_steps(const Batch& batch, const Chunk& chunk, const Rows& codes,
                          const DequantizeParams& params) noexcept {
    alignas(64) static constexpr auto constant = [](float value) {
        std::array<float, most_boxes> all{};
        all.fill(value);
        return all;
    };
    static constexpr std::array<float, most_boxes> none = constant(0), ones = constant(1),
                                                   last = constant(llm_int8_step);
    const size_t n = chunk.rows * chunk.cols;
    const Rows floats{tile_, static_cast<ptrdiff_t>(chunk.cols * sizeof(float))};
    const bool fused = arithmetic_.fused_scale != 1;
    run(table_.dequantize[kind_][hub_f32][along_], batch, chunk, codes, kind_bits[kind_], floats, sizeof(float),
        fused ? params : DequantizeParams{params.scale, none.data(), nullptr, false}, false);
    if (fused) {
        run(table_.dequantize[codes_f32][hub_f32][along_], batch, chunk, floats, 32, floats, sizeof(float),
            {last.data(), none.data(), nullptr, false}, false);
        return;
    }
    const int32_t hub = arithmetic_.dequant_hub, format = hub_formats[hub];
    table_.direct[hub_f32][format][0](tile_, raw_, n, false);
    table_.widen[format](raw_, tile_, n, false);
    // The bias is minus the shift: one more step of that format.
    run(table_.dequantize[codes_f32][hub][along_], batch, chunk, floats, 32,
        {raw_, static_cast<ptrdiff_t>(chunk.cols * 2)}, 2, {ones.data(), none.data(), params.bias, false}, false);
    table_.widen[format](raw_, tile_, n, false);
}

void ValueMaker::make_floats(const Batch& batch, const Chunk& chunk, const Rows& codes,
                             const DequantizeParams& params) noexcept {
    if (in_steps_)
        in_steps(batch, chunk, codes, params);
    else
        run(table_.dequantize[kind_][hub_f32][along_], batch, chunk, codes, kind_bits[kind_],
            {tile_, static_cast<ptrdiff_t>(chunk.cols * sizeof(float))}, sizeof(float), params, false);
}

void ValueMaker::make(const Batch& batch, const Chunk& chunk, const Rows& codes, const DequantizeParams& params,
                      const View& to, bool stream) noexcept {
    const int32_t hub = out_.hub();
    const auto item = hub_items[hub];
    if (direct(to.col)) {
        run(table_.dequantize[kind_][hub][along_], batch, chunk, codes, kind_bits[kind_],
            {to.data, static_cast<ptrdiff_t>(to.row)}, item, params, stream);
        return;
    }
    if (!in_steps_) {
        run(table_.dequantize[kind_][hub][along_], batch, chunk, codes, kind_bits[kind_],
            {tile_, static_cast<ptrdiff_t>(chunk.cols * item)}, item, params, false);
        out_.write(to, tile_, raw_, stream);
        return;
    }
    in_steps(batch, chunk, codes, params);
    const unsigned char* made = tile_;
    if (hub != hub_f32) { // write() wants them in the format of the hub
        table_.direct[hub_f32][hub_formats[hub]][0](made, raw_, chunk.rows * chunk.cols, false);
        made = raw_;
    }
    out_.write(to, made, raw_, stream);
}

} // namespace narrowcast
