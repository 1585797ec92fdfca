// nc_quantization_error: chunk by chunk the values of x and of its codes, side by side in float32, for the kernel that
// compares them; what was clipped is counted here, box by box.
#include <string.h>

#include <cmath>
#include <limits>

#include "api/boxes.hpp"
#include "api/cast_error.hpp"
#include "api/error.hpp"
#include "api/format_table.hpp"
#include "api/fp_guard.hpp"
#include "api/params.hpp"
#include "api/quant_check.hpp"
#include "api/tiles.hpp"
#include "api/value_maker.hpp"

namespace narrowcast {
namespace {

// The ends of the codes as real numbers, and half the step there, in units of a scale.
struct Ends {
    float low, high, half_step;
};

Ends ends_of(const QuantRequest& r) noexcept {
    if (r.options.format == NC_FORMAT_INVALID)
        return {static_cast<float>(r.codes_in_use.low), static_cast<float>(r.codes_in_use.high), 0.5f};
    const int32_t format = r.options.format;
    const uint64_t last = format_of(format).facts.max;
    const double high = value_of(format, last), half_step = (high - value_of(format, last - 1)) / 2;
    return {static_cast<float>(-high), static_cast<float>(high), static_cast<float>(half_step)};
}

class Comparer {
public:
    Comparer(const QuantRequest& r, const Arithmetic& arithmetic, const Nest& nest) noexcept
        : r_(r), arithmetic_(arithmetic), nest_(nest), ends_(ends_of(r)), numbers_(r, arithmetic),
          x_(*r.table, r.x, hub_f32), codes_(r), real_(real_operand()),
          values_(*r.table, real_, codes_.kind(), arithmetic, nest.along, reinterpret_cast<unsigned char*>(made_),
                  tiles_.raw) {}

    void run(nc_error_sums& sums) noexcept {
        for_each_batch(nest_, 0, nest_.n, false, quant_tile, [&](const Batch& batch) {
            numbers_.load(batch);
            const DequantizeParams params = numbers_.dequantize_params();
            for_each_chunk(nest_.along, batch, quant_tile,
                           [&](const Chunk& chunk) { compare(batch, chunk, params, sums); });
        });
    }

private:
    static Operand real_operand() noexcept {
        Operand operand{};
        operand.format = NC_FORMAT_f32;
        operand.item = sizeof(float);
        return operand;
    }

    void compare(const Batch& batch, const Chunk& chunk, const DequantizeParams& params, nc_error_sums& sums) noexcept {
        const Rows x = x_.read(view_as_x(r_.x.data, batch, chunk), tiles_.raw, tiles_.numbers);
        const Rows codes = codes_.read(codes_.view(r_.codes.data, batch, chunk), tiles_.codes, tiles_.raw);
        const auto step = static_cast<int64_t>(chunk.cols * sizeof(float));
        const auto* const made = reinterpret_cast<const unsigned char*>(made_);
        values_.make_floats(batch, chunk, codes, params);
        // A value never overflows by its magnitude alone: the rule lets all pass.
        constexpr uint32_t none = 0x7f800000;
        const CensusRule rule{none, none, 0};
        const bool one_run = chunk.rows == 1 || x.step == static_cast<ptrdiff_t>(step);
        const size_t rows = one_run ? 1 : chunk.rows, cols = one_run ? chunk.rows * chunk.cols : chunk.cols;
        for (size_t row = 0; row < rows; ++row)
            r_.table->error(reinterpret_cast<const uint32_t*>(x.data + static_cast<ptrdiff_t>(row) * x.step),
                            reinterpret_cast<const uint32_t*>(made + row * static_cast<size_t>(step)), cols, rule,
                            sums);
        for_each_span(nest_.along, batch, chunk, [&](const Span& span) {
            const auto across = static_cast<ptrdiff_t>(span.cols * sizeof(float));
            for (size_t row = 0; row < span.rows; ++row) {
                const auto down = static_cast<ptrdiff_t>(row);
                const unsigned char* const from =
                    x.data + span.at * sizeof(float) + down * (span.own_rows ? x.step : across);
                const float* const y = made_ + span.at + row * span.cols;
                sums.overflowed += clipped(from, y, span.cols, span.param + (columns() ? 0 : row));
            }
        });
    }

    bool columns() const noexcept { return nest_.along == along_columns; }

    // How many of n values of x, float32 of any alignment, were clipped to y. param: of the first; of the others the
    // same, or one each.
    uint64_t clipped(const unsigned char* x, const float* y, size_t n, size_t param) const noexcept {
        uint64_t count = 0;
        Limits limits = limits_of(param);
        for (size_t i = 0; i < n; ++i) {
            if (columns() && i != 0)
                limits = limits_of(param + i);
            float value;
            memcpy(&value, x + i * sizeof value, sizeof value);
            const bool above = value > limits.high && y[i] > limits.near_high;
            const bool below = value < limits.low && y[i] < limits.near_low;
            count += (above || below) && std::fabs(value) <= std::numeric_limits<float>::max() ? 1 : 0;
        }
        return count;
    }

    // x is clipped beyond low and high if its value lies beyond what is nearer than half a step to the end.
    struct Limits {
        float low, near_low, near_high, high;
    };
    Limits limits_of(size_t param) const noexcept {
        const float scale = numbers_.scales()[param] * arithmetic_.fused_scale, half = ends_.half_step * scale;
        const bool given = r_.zero.data != nullptr, shift = arithmetic_.zero == Zero::shift;
        const float zero = given ? numbers_.zeros()[param] : 0;
        const float low = (ends_.low - (shift ? 0 : zero)) * scale - (shift ? zero : 0);
        const float high = (ends_.high - (shift ? 0 : zero)) * scale - (shift ? zero : 0);
        return {low - half, low + half, high - half, high + half};
    }

    const QuantRequest& r_;
    const Arithmetic& arithmetic_;
    const Nest& nest_;
    Ends ends_;
    BoxNumbers numbers_;
    Reals x_;
    Codes codes_;
    Operand real_;
    ValueMaker values_;
    Tiles tiles_;
    alignas(64) float made_[quant_tile];
};

} // namespace
} // namespace narrowcast

nc_status nc_quantization_error(const nc_array* x, const nc_array* codes, const nc_array* scale,
                                const nc_array* zero_point, const nc_quantize_options* options, nc_error_sums* sums,
                                nc_error* error) noexcept {
    using namespace narrowcast;
    if (!ready(error))
        return NC_ERROR_ARGUMENT;
    if (sums == nullptr)
        return fail(error, NC_ERROR_ARGUMENT, "sums is null; it must point to an nc_error_sums");
    if (const nc_status status = check_sums(sums, error))
        return status;
    QuantRequest r;
    Given given[] = {{x, "x", Role::real, Use::read, &r.x},
                     {codes, "codes", Role::codes, Use::read, &r.codes},
                     {scale, "scale", Role::scale, Use::read, &r.scale},
                     {zero_point, "zero_point", Role::zero, Use::read, &r.zero}};
    if (const nc_status status = check_call(options, given, error, r))
        return status;
    if (r.n == 0)
        return NC_OK;
    Nest nest;
    if (const nc_status status = make_nest(r, r.scale, r.zero, {r.packed, false}, error, nest))
        return status;
    const FpGuard guard(NC_NEAREST_EVEN);
    const Arithmetic arithmetic = make_arithmetic(r);
    Comparer comparer(r, arithmetic, nest);
    nc_error_sums found = empty_sums(*sums);
    comparer.run(found);
    add_sums(found, *sums);
    return NC_OK;
}
