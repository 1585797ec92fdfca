// The numbers that belong to boxes, a batch at a time: read from their arrays, or computed from ranges and written to
// them, and made into what the kernels take.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "api/boxes.hpp"
#include "api/dialect.hpp"
#include "api/quant_check.hpp"

namespace narrowcast {

// 1 / 127 as bitsandbytes writes it: what llm_int8 multiplies by in the end, its scales being ranges.
inline constexpr float llm_int8_step = 7.874015718698502e-3f;

// How a request's dialect computes.
struct Arithmetic {
    QuantizeOp op;
    int32_t hub;         // what each step of making codes is rounded to
    int32_t qparams_hub; // and each step of making scales
    QuantizeRule rule;   // for integer codes
    Zero zero;           // what the zero point is; with an int32 one of a dialect of shifts: after
    float numerator;     // times the reciprocal of a scale: what x is multiplied by
    float fused_scale;   // dequantized values are multiplied by this in the end, unless it is 1
    int32_t dequant_hub; // what each step of dequantizing is rounded to (only with a shift)
    bool takes_in_zero;  // scales are made from ranges with zero in them
};
Arithmetic make_arithmetic(const QuantRequest& request) noexcept;

class BoxNumbers {
public:
    BoxNumbers(const QuantRequest& request, const Arithmetic& arithmetic) noexcept;

    // Scales and zero points of the batch's boxes, as float32.
    void load(const Batch& batch) noexcept;
    // The same from ranges; they are written to their arrays. filled: every box had a finite value; else low[i] >
    // high[i] where there was none.
    void choose(const Batch& batch, float* low, float* high, bool filled) noexcept;
    // After either:
    QuantizeParams quantize_params() noexcept;
    DequantizeParams dequantize_params() noexcept;
    const float* scales() const noexcept { return scale_; }
    const float* zeros() const noexcept { return zero_; } // zero points or shifts, 0 if there are none

private:
    // From `count` ranges: fills scales and zero points that are ready to be stored.
    void compute(const float* low, const float* high, size_t count) noexcept;
    void store(const Batch& batch) noexcept;
    void read(const Operand& operand, const unsigned char* from, int64_t step, size_t count, float* to) noexcept;
    void write(const Operand& operand, unsigned char* to, int64_t step, size_t count, const void* from) noexcept;
    void round_to_hub(int32_t hub, float* numbers, size_t count) noexcept;

    const KernelTable& table_;
    const QuantRequest& request_;
    const Arithmetic& arithmetic_;
    QparamsRule rule_;
    size_t count_;
    bool own_multiplier_; // factor_ holds it already
    alignas(64) float scale_[most_boxes];
    alignas(64) float zero_[most_boxes];
    alignas(64) float factor_[most_boxes];
    alignas(64) unsigned char raw_[most_boxes * 4]; // numbers in their formats, on their way
};

} // namespace narrowcast
