// Loops over the boxes of a batch, simple enough for the compiler to make them wide: a box of 128 elements leaves no
// time for more.
#include "api/params.hpp"

#include <string.h>

#include <algorithm>
#include <limits>

#include "api/format_table.hpp"
#include "api/walk.hpp"
#include "codec/qparams.hpp"

namespace narrowcast {
namespace {

constexpr float largest_f32 = std::numeric_limits<float>::max();
alignas(64) constexpr float all_zero[most_boxes] = {};

int32_t hub_of_format(int32_t format) noexcept { return std::max(format_of(format).hub, int32_t{hub_f32}); }

float largest_value(int32_t format) noexcept {
    return static_cast<float>(value_of(format, format_of(format).facts.max));
}

QparamsRule make_rule(const QuantRequest& r) noexcept {
    const nc_quantize_options& o = r.options;
    const float limit = o.scale_max != 0 ? o.scale_max : std::numeric_limits<float>::infinity();
    return {o.dialect,        r.codes_in_use,
            r.bits,           o.is_signed != 0,
            o.symmetric != 0, o.format != NC_FORMAT_INVALID ? largest_value(o.format) : 0,
            r.scale.format,   limit};
}

using ChooseFn = void (*)(const QparamsRule&, const float*, const float*, size_t, float*, float*) noexcept;

template <int32_t Dialect, int32_t Hub>
void choose_batch(const QparamsRule& given, const float* low, const float* high, size_t count, float* scale,
                  float* zero) noexcept {
    const QparamsRule rule = given; // a copy: nothing that the loop writes can change it
    if (Dialect == NC_DIALECT_onnx && Hub == hub_f32 && rule.symmetric && rule.largest == 0 &&
        rule.scale_format == NC_FORMAT_f32) { // without branches
        const OnnxSymmetric symmetric(rule);
        const auto middle = static_cast<float>(middle_of(rule));
        for (size_t i = 0; i < count; ++i) {
            const float found = symmetric.scale_of(std::min(low[i], 0.0f), std::max(high[i], 0.0f));
            scale[i] = std::min(std::max(found, smallest_normal_f32), largest_f32);
            zero[i] = middle;
        }
        return;
    }
    for (size_t i = 0; i < count; ++i) {
        const Qparams found = choose_qparams<Dialect, Hub>(rule, low[i], high[i]);
        scale[i] = std::min(raised_scale(rule, found.scale), largest_f32);
        zero[i] = found.zero;
    }
}

constexpr ChooseFn choosers[NC_DIALECT_LIMIT][hub_count] = {
    {},
#define NC_DIALECT(number, id, quotient, zero, steps, nan)                                                             \
    {choose_batch<number, hub_f32>, choose_batch<number, hub_f16>, choose_batch<number, hub_bf16>},
#include "narrowcast/dialects.def"
};

} // namespace

Arithmetic make_arithmetic(const QuantRequest& r) noexcept {
    const nc_quantize_options& o = r.options;
    const Dialect& dialect = dialect_of(o.dialect);
    Arithmetic a{};
    a.op = dialect.quotient == Quotient::divide ? op_divide : dialect.quotient == Quotient::fma ? op_fma : op_multiply;
    const int32_t by_source = dialect.steps == Steps::source ? hub_of_format(r.x.format) : int32_t{hub_f32};
    a.qparams_hub = o.compute != NC_FORMAT_INVALID ? hub_of_format(o.compute) : by_source;
    // As torch promotes: a float32 scale makes every step float32; E8M0 leaves it to x.
    const bool agree = r.scale.format == r.x.format || r.scale.format == NC_FORMAT_e8m0fnu;
    a.hub = o.compute != NC_FORMAT_INVALID ? a.qparams_hub : agree ? by_source : int32_t{hub_f32};
    const int32_t item = o.format != NC_FORMAT_INVALID ? 4 : r.bits > 8 ? 2 : 1;
    a.rule = {r.codes_in_use.low, r.codes_in_use.high, dialect.nan == Nan::high, item};
    a.zero = dialect.zero == Zero::shift && r.zero.format == NC_FORMAT_i32 ? Zero::after : dialect.zero;
    const bool stats = o.dialect == NC_DIALECT_llm_int8;
    a.numerator = stats ? 127.0f : 1.0f;
    a.fused_scale = stats ? llm_int8_step : 1.0f;
    a.dequant_hub =
        o.dialect == NC_DIALECT_quanto && a.zero == Zero::shift ? hub_of_format(r.scale.format) : int32_t{hub_f32};
    a.takes_in_zero = takes_in_zero(o.dialect, o.symmetric != 0, o.format != NC_FORMAT_INVALID);
    return a;
}

BoxNumbers::BoxNumbers(const QuantRequest& request, const Arithmetic& arithmetic) noexcept
    : table_(*request.table), request_(request), arithmetic_(arithmetic), rule_(make_rule(request)), count_(0),
      own_multiplier_(false) {}

void BoxNumbers::read(const Operand& operand, const unsigned char* from, int64_t step, size_t count,
                      float* to) noexcept {
    const auto item = static_cast<int64_t>(operand.item);
    if (operand.swapped || (step != item && count != 1)) {
        move_block({raw_, from, 1, count, 0, item, 0, step}, operand.item, operand.swapped);
        from = raw_;
    }
    if (operand.format == NC_FORMAT_f32) {
        memcpy(to, from, count * sizeof *to);
    } else if (operand.format == NC_FORMAT_i32) {
        for (size_t i = 0; i < count; ++i) {
            int32_t value;
            memcpy(&value, from + i * sizeof value, sizeof value);
            to[i] = static_cast<float>(value);
        }
    } else {
        table_.widen[operand.format](from, to, count, false);
    }
}

void BoxNumbers::write(const Operand& operand, unsigned char* to, int64_t step, size_t count,
                       const void* from) noexcept {
    const auto item = static_cast<int64_t>(operand.item);
    if (!operand.swapped && (step == item || count == 1))
        memcpy(to, from, count * operand.item);
    else
        move_block({to, static_cast<const unsigned char*>(from), 1, count, 0, step, 0, item}, operand.item,
                   operand.swapped);
}

void BoxNumbers::round_to_hub(int32_t hub, float* numbers, size_t count) noexcept {
    if (hub == hub_f32)
        return;
    const int32_t format = hub_formats[hub];
    table_.direct[hub_f32][format][0](numbers, raw_, count, false);
    table_.widen[format](raw_, numbers, count, false);
}

void BoxNumbers::load(const Batch& batch) noexcept {
    count_ = batch.boxes;
    own_multiplier_ = false;
    read(request_.scale, request_.scale.data + batch.at.first, batch.row.first, count_, scale_);
    if (request_.zero.data != nullptr)
        read(request_.zero, request_.zero.data + batch.at.second, batch.row.second, count_, zero_);
}

void BoxNumbers::compute(const float* low, const float* high, size_t count) noexcept {
    count_ = count;
    choosers[rule_.dialect][arithmetic_.qparams_hub](rule_, low, high, count, scale_, zero_);
    if (const int32_t format = rule_.scale_format; format != NC_FORMAT_f32) {
        table_.direct[hub_f32][format][1](scale_, raw_, count, false);
        table_.widen[format](raw_, scale_, count, false);
    }
    for (size_t i = 0; rule_.dialect == NC_DIALECT_compressed_tensors && i < count; ++i)
        scale_[i] = finished_scale(rule_, scale_[i]);
    own_multiplier_ = rule_.dialect == NC_DIALECT_fbgemm && rule_.bits == 8 && rule_.largest == 0;
    for (size_t i = 0; own_multiplier_ && i < count; ++i)
        factor_[i] = fbgemm_multiplier(low[i], high[i]);
}

void BoxNumbers::store(const Batch& batch) noexcept {
    const Operand &scale = request_.scale, &zero = request_.zero;
    const void* from = scale_;
    if (scale.format != NC_FORMAT_f32) { // exact
        table_.direct[hub_f32][scale.format][1](scale_, raw_, count_, false);
        from = raw_;
    }
    write(scale, scale.data + batch.at.first, batch.row.first, count_, from);
    if (zero.data == nullptr)
        return;
    from = zero_;
    if (zero.format == NC_FORMAT_i32) {
        for (size_t i = 0; i < count_; ++i) {
            const auto value = static_cast<int32_t>(clamped(zero_[i], -0x1p24f, 0x1p24f));
            memcpy(raw_ + i * sizeof value, &value, sizeof value);
        }
        from = raw_;
    } else if (zero.format != NC_FORMAT_f32) {
        table_.direct[hub_f32][zero.format][1](zero_, raw_, count_, false);
        table_.widen[zero.format](raw_, zero_, count_, false); // what is used is what is stored
        from = raw_;
    }
    write(zero, zero.data + batch.at.second, batch.row.second, count_, from);
}

void BoxNumbers::choose(const Batch& batch, float* low, float* high, bool filled) noexcept {
    for (size_t i = 0; !filled && i < batch.boxes; ++i) {
        const bool none = low[i] > high[i];
        low[i] = none ? 0 : low[i];
        high[i] = none ? 0 : high[i];
    }
    compute(low, high, batch.boxes);
    store(batch);
}

QuantizeParams BoxNumbers::quantize_params() noexcept {
    const Arithmetic& a = arithmetic_;
    QuantizeParams params{factor_, nullptr, nullptr, nullptr, nullptr, nullptr};
    if (request_.zero.data != nullptr && request_.options.format == NC_FORMAT_INVALID) {
        if (a.zero != Zero::shift)
            round_to_hub(a.hub, zero_, count_); // an operand of a sum in that format
        (a.zero == Zero::shift ? params.shift : a.zero == Zero::before ? params.zero : params.offset) = zero_;
    }
    if (a.op == op_divide) {
        params.factor = scale_;
        return params;
    }
    if (own_multiplier_)
        return params;
    for (size_t i = 0; i < count_; ++i)
        factor_[i] = 1.0f / scale_[i];
    round_to_hub(a.hub, factor_, count_);
    for (size_t i = 0; i < count_; ++i) // finite, so that zero times it is zero
        factor_[i] = std::clamp(factor_[i], -largest_f32, largest_f32);
    for (size_t i = 0; a.numerator != 1 && i < count_; ++i)
        factor_[i] = std::clamp(factor_[i] * a.numerator, -largest_f32, largest_f32);
    return params;
}

DequantizeParams BoxNumbers::dequantize_params() noexcept {
    if (request_.zero.data == nullptr)
        return {scale_, all_zero, nullptr, false};
    if (arithmetic_.zero != Zero::shift)
        return {scale_, zero_, nullptr, false};
    for (size_t i = 0; i < count_; ++i)
        factor_[i] = -zero_[i];
    return {scale_, all_zero, factor_, request_.options.dialect == NC_DIALECT_fbgemm};
}

} // namespace narrowcast
