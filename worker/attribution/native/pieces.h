// What stands between a decoder layer's products, forwards and backwards: RMS norm, rotation, causal attention,
// SwiGLU. fp32 throughout.
//
// Rules of this file:
// - Heads have a multiple of 16 numbers. Every sum runs in one order.
// - A query's probabilities stand [tokens][tokens], the part above the diagonal unused.
#pragma once

#include <cmath>

#include "low.h"

// y = x / rms(x) * weight; `inverse` [rows] keeps 1 / rms.
static void norm(const float* x, int rows, int width, const float* weight, float epsilon, float* y, float* inverse) {
    for (int row = 0; row < rows; ++row, x += width, y += width) {
        __m512 sum = _mm512_setzero_ps();
        for (int k = 0; k < width; k += LANES) {
            const __m512 each = _mm512_maskz_loadu_ps(lanes_left(width - k), x + k);
            sum = _mm512_fmadd_ps(each, each, sum);
        }
        inverse[row] = 1.0f / std::sqrt(_mm512_reduce_add_ps(sum) / (float)width + epsilon);
        for (int k = 0; k < width; ++k) y[k] = x[k] * inverse[row] * weight[k];
    }
}

// into [rows][width] += what the norm's inputs get of g, which has `stride` numbers a row.
static void norm_back(const float* g, int stride, const float* x, const float* inverse, int rows, int width,
                      const float* weight, float* into) {
    for (int row = 0; row < rows; ++row, g += stride, x += width, into += width) {
        __m512 sum = _mm512_setzero_ps();
        for (int k = 0; k < width; k += LANES) {
            const __mmask16 mask = lanes_left(width - k);
            const __m512 scaled = _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, g + k), _mm512_maskz_loadu_ps(mask, weight + k));
            sum = _mm512_fmadd_ps(scaled, _mm512_maskz_loadu_ps(mask, x + k), sum);
        }
        const float r = inverse[row], pull = _mm512_reduce_add_ps(sum) * r * r * r / (float)width;
        for (int k = 0; k < width; ++k) into[k] += g[k] * weight[k] * r - x[k] * pull;
    }
}

// Rotate `heads` heads in place; `back` undoes a rotation, which is its gradient. Tables are [rows][size].
static void rotate(float* x, int stride, int rows, int heads, int size, const float* cosines, const float* sines,
                   bool back) {
    const int half = size / 2;
    for (int row = 0; row < rows; ++row, x += stride, cosines += size, sines += size)
        for (int head = 0; head < heads; ++head) {
            float *low = x + head * size, *high = low + half;
            for (int k = 0; k < half; ++k) {
                const float a = low[k], b = high[k];
                low[k] = back ? a * cosines[k] + b * sines[half + k] : a * cosines[k] - b * sines[k];
                high[k] = back ? b * cosines[half + k] - a * sines[k] : b * cosines[half + k] + a * sines[half + k];
            }
        }
}

static inline float dot(const float* a, const float* b, int size) {
    __m512 sum = _mm512_setzero_ps();
    for (int k = 0; k < size; k += LANES) sum = _mm512_fmadd_ps(_mm512_loadu_ps(a + k), _mm512_loadu_ps(b + k), sum);
    return _mm512_reduce_add_ps(sum);
}

static inline void add(float* into, float factor, const float* x, int size) {
    const __m512 times = _mm512_set1_ps(factor);
    for (int k = 0; k < size; k += LANES)
        _mm512_storeu_ps(into + k, _mm512_fmadd_ps(times, _mm512_loadu_ps(x + k), _mm512_loadu_ps(into + k)));
}

static void softmax(float* x, int count) {
    float most = x[0];
    for (int i = 1; i < count; ++i) most = x[i] > most ? x[i] : most;
    __m512 total = _mm512_setzero_ps();
    for (int i = 0; i < count; i += LANES) {
        const __mmask16 mask = lanes_left(count - i);
        const __m512 each = exp_ps(_mm512_sub_ps(_mm512_maskz_loadu_ps(mask, x + i), _mm512_set1_ps(most)));
        total = _mm512_mask_add_ps(total, mask, total, each);
        _mm512_mask_storeu_ps(x + i, mask, each);
    }
    const float part = 1.0f / _mm512_reduce_add_ps(total);
    for (int i = 0; i < count; ++i) x[i] *= part;
}

// One query head: out [tokens] rows of `size`, from rows of queries, keys and values `stride` apart.
static void attend(const float* q, const float* k, const float* v, int stride, int tokens, int size, float* odds,
                   float* out, int out_stride) {
    const float scale = 1.0f / std::sqrt((float)size);
    for (int t = 0; t < tokens; ++t) {
        float *p = odds + (size_t)t * tokens, *y = out + (size_t)t * out_stride;
        for (int s = 0; s <= t; ++s) p[s] = scale * dot(q + (size_t)t * stride, k + (size_t)s * stride, size);
        softmax(p, t + 1);
        for (int i = 0; i < size; ++i) y[i] = 0.0f;
        for (int s = 0; s <= t; ++s) add(y, p[s], v + (size_t)s * stride, size);
    }
}

// Adds to the gradients dq, dk, dv (rows `back` apart); `pull` is room for a row of probabilities.
static void attend_back(const float* g, int g_stride, const float* q, const float* k, const float* v, int stride,
                        int tokens, int size, const float* odds, float* dq, float* dk, float* dv, int back, float* pull) {
    const float scale = 1.0f / std::sqrt((float)size);
    for (int t = 0; t < tokens; ++t) {
        const float *p = odds + (size_t)t * tokens, *gt = g + (size_t)t * g_stride;
        float mean = 0.0f;
        for (int s = 0; s <= t; ++s) {
            pull[s] = dot(gt, v + (size_t)s * stride, size);
            mean += pull[s] * p[s];
        }
        for (int s = 0; s <= t; ++s) {
            const float score = p[s] * (pull[s] - mean) * scale;
            add(dq + (size_t)t * back, score, k + (size_t)s * stride, size);
            add(dk + (size_t)s * back, score, q + (size_t)t * stride, size);
            add(dv + (size_t)s * back, p[s], gt, size);
        }
    }
}

// y = silu(gate) * up; a row of `x` is the gate's numbers, then up's.
static void swiglu(const float* x, int stride, int rows, int width, float* y) {
    for (int row = 0; row < rows; ++row, x += stride, y += width)
        for (int k = 0; k < width; k += LANES) {
            const __mmask16 mask = lanes_left(width - k);
            const __m512 gate = _mm512_maskz_loadu_ps(mask, x + k), up = _mm512_maskz_loadu_ps(mask, x + width + k);
            const __m512 down = _mm512_add_ps(_mm512_set1_ps(1), exp_ps(_mm512_sub_ps(_mm512_setzero_ps(), gate)));
            _mm512_mask_storeu_ps(y + k, mask, _mm512_mul_ps(_mm512_div_ps(gate, down), up));
        }
}

// dx [rows][2 width] from g [rows] of `g_stride`.
static void swiglu_back(const float* g, int g_stride, const float* x, int stride, int rows, int width, float* dx) {
    const __m512 one = _mm512_set1_ps(1);
    for (int row = 0; row < rows; ++row, g += g_stride, x += stride, dx += 2 * width)
        for (int k = 0; k < width; k += LANES) {
            const __mmask16 mask = lanes_left(width - k);
            const __m512 each = _mm512_maskz_loadu_ps(mask, g + k), gate = _mm512_maskz_loadu_ps(mask, x + k);
            const __m512 up = _mm512_maskz_loadu_ps(mask, x + width + k);
            const __m512 odds = _mm512_div_ps(one, _mm512_add_ps(one, exp_ps(_mm512_sub_ps(_mm512_setzero_ps(), gate))));
            const __m512 slope = _mm512_mul_ps(odds, _mm512_fmadd_ps(gate, _mm512_sub_ps(one, odds), one));
            _mm512_mask_storeu_ps(dx + k, mask, _mm512_mul_ps(each, _mm512_mul_ps(up, slope)));
            _mm512_mask_storeu_ps(dx + width + k, mask, _mm512_mul_ps(each, _mm512_mul_ps(gate, odds)));
        }
}
