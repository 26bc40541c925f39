// A forward and a backward pass of one example through a decoder of the Llama family with one adapter: what an
// adapter's parameters get of a loss. Products with the base's weights round what they multiply to bf16, or to the
// sum of two bf16 numbers (`terms`), and sum in fp32 (`linear.h`); everything else is fp32.
//
// Rules of this file:
// - The base's weights get no gradient; the adapter's are written to `down_gradient` and `up_gradient`.
// - The caller checks all sizes, and gives `room` of as many numbers as `commonlore_passes_room` says. What the
//   forward pass leaves there the backward pass reads.
// - The same inputs give the same bits on any number of threads.
// - Of a long example only what enters each layer is kept, and a layer's forward pass is computed again for its backward
//   pass, one head's probabilities at a time: the same bits, a third more work, and memory that grows as the example does.

#include <algorithm>
#include <iterator>

#include "../../engine/native/linear.h"
#include "layout.h"
#include "pieces.h"
#include "whiten.h"

namespace {

// x rounded to bf16, or what that leaves of x, rounded.
void round(const float* x, int64_t count, bool rest, bf16* into) {
    for (int64_t k = 0; k < count; k += LANES) {
        const __mmask16 mask = lanes_left((int)std::min<int64_t>(LANES, count - k));
        const __m512 whole = _mm512_maskz_loadu_ps(mask, x + k);
        __m256i near = to_bf16(whole);
        if (rest) {
            const __m512 back = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(near), 16));
            near = to_bf16(_mm512_sub_ps(whole, back));
        }
        _mm256_mask_storeu_epi16(into + k, mask, near);
    }
}

class Pass {
   public:
    explicit Pass(const Passes& p)
        : p(p), s(p), again(is_long(p)), kept(kept_places(p, again)), shared(shared_places(p)) {}

    int64_t room() const { return shared.size + (again ? kept.size + p.layers * s.entered : p.layers * kept.size); }

    void forward() {
        for (int layer = 0; layer < p.layers; ++layer) {
            std::copy(p.states, p.states + s.entered, entered(layer));
            forward(layer);
            finish(layer);
        }
    }

    void backward() {
        for (int layer = p.layers - 1; layer >= 0; --layer) {
            if (again) forward(layer);
            backward(layer);
            if (p.watch != nullptr) p.watch(layer);
        }
    }

   private:
    const Passes& p;
    const Sizes s;
    const bool again;
    const Kept kept;
    const Shared shared;

    float* own(int layer) const { return p.room + shared.size + (again ? 0 : layer * kept.size); }
    float* entered(int layer) const {
        return again ? p.room + shared.size + kept.size + layer * s.entered : own(layer) + kept.entered;
    }
    float* odds(int layer, int head) const {
        return own(layer) + kept.odds + (again ? 0 : (int64_t)head * s.tokens * s.tokens);
    }
    float* at(int64_t place) const { return p.room + place; }

    // y = x W^T, W in bf16 and x in as many terms.
    void product(const Linear& linear, const float* x, float* y) const {
        bf16* rounded = (bf16*)at(shared.rounded);
        const int64_t count = (int64_t)s.tokens * linear.in, outputs = (int64_t)s.tokens * padded(linear.out);
        round(x, count, false, rounded);
        multiply(linear, rounded, s.tokens, y, nullptr, p.threads);
        if (p.terms < 2) return;
        float* more = at(shared.more);
        round(x, count, true, rounded);
        multiply(linear, rounded, s.tokens, more, nullptr, p.threads);
        for (int64_t k = 0; k < outputs; ++k) y[k] += more[k];
    }

    void add_low(int layer, Target target, const float* x, int in, float* y, int stride, int out) const {
        const Low& low = p.layer[layer].low[target];
        if (low.down == nullptr) return;
        float* squeezed = own(layer) + kept.squeezed + (int64_t)target * s.tokens * p.rank;
        squeeze(x, in, s.tokens, in, low.down, p.rank, p.scale, squeezed);
        spread(squeezed, s.tokens, p.rank, low.up, out, y, stride);
    }

    // The adapter's gradients of one linear from g at its output.
    void low_back(int layer, Target target, const float* g, int g_stride, int out, const float* x, int in) const {
        const Low& low = p.layer[layer].low[target];
        if (low.down == nullptr) return;
        float* back = at(shared.back) + (int64_t)target * s.tokens * p.rank;
        squeeze(g, g_stride, s.tokens, out, low.up, p.rank, p.scale, back);
        const float* squeezed = own(layer) + kept.squeezed + (int64_t)target * s.tokens * p.rank;
        gather(squeezed, s.tokens, p.rank, g, g_stride, out, low.up_gradient);
        gather(back, s.tokens, p.rank, x, in, in, low.down_gradient);
    }

    void enter_back(int layer, Target target, int in, float* into, int stride) const {
        const Low& low = p.layer[layer].low[target];
        if (low.down == nullptr) return;
        spread(at(shared.back) + (int64_t)target * s.tokens * p.rank, s.tokens, p.rank, low.down, in, into, stride);
    }

    void add_rows(float* y, const float* a, const float* b, int b_stride) const {
        for (int row = 0; row < s.tokens; ++row)
            for (int k = 0; k < s.hidden; ++k)
                y[(size_t)row * s.hidden + k] = a[(size_t)row * s.hidden + k] + b[(size_t)row * b_stride + k];
    }

    // All that a layer's backward pass reads, from what entered it.
    void forward(int layer) const {
        const Layer& l = p.layer[layer];
        float *o = own(layer), *in = entered(layer), *out = at(shared.out);
        float *first = o + kept.first, *qkv = o + kept.qkv, *middle = o + kept.middle;
        float *second = o + kept.second, *gate_up = o + kept.gate_up;
        const int stride = padded(s.qkv), wide = padded(2 * s.inner), hidden = padded(s.hidden);
        norm(in, s.tokens, s.hidden, l.input_norm, p.epsilon, first, o + kept.first_inverse);
        product(l.qkv, first, qkv);
        add_low(layer, Q, first, s.hidden, qkv, stride, s.query);
        add_low(layer, K, first, s.hidden, qkv + s.query, stride, s.key);
        add_low(layer, V, first, s.hidden, qkv + s.query + s.key, stride, s.key);
        rotate(qkv, stride, s.tokens, p.heads + p.kv_heads, p.head_dim, p.cosines, p.sines, false);
        for (int head = 0; head < p.heads; ++head) attend_head(layer, head);
        product(l.o, o + kept.attended, out);
        add_low(layer, O, o + kept.attended, s.query, out, hidden, s.hidden);
        add_rows(middle, in, out, hidden);
        norm(middle, s.tokens, s.hidden, l.mlp_norm, p.epsilon, second, o + kept.second_inverse);
        product(l.gate_up, second, gate_up);
        add_low(layer, GATE, second, s.hidden, gate_up, wide, s.inner);
        add_low(layer, UP, second, s.hidden, gate_up + s.inner, wide, s.inner);
        swiglu(gate_up, wide, s.tokens, s.inner, o + kept.active);
        product(l.down, o + kept.active, out);
        add_low(layer, DOWN, o + kept.active, s.inner, out, hidden, s.hidden);
    }

    // The states that leave a layer.
    void finish(int layer) const { add_rows(p.states, own(layer) + kept.middle, at(shared.out), padded(s.hidden)); }

    void attend_head(int layer, int head) const {
        float *o = own(layer), *qkv = o + kept.qkv;
        const int key = s.query + head / (p.heads / p.kv_heads) * p.head_dim;
        attend(qkv + head * p.head_dim, qkv + key, qkv + key + s.key, padded(s.qkv), s.tokens, p.head_dim,
               odds(layer, head), o + kept.attended + head * p.head_dim, s.query);
    }

    void backward(int layer) const {
        const Layer& l = p.layer[layer];
        float *o = own(layer), *g = p.states, *out = at(shared.out), *d_qkv = at(shared.d_qkv);
        float *d_active = at(shared.d_active), *d_gate_up = at(shared.d_gate_up), *d_attended = at(shared.d_attended);
        const int inner = padded(s.inner), hidden = padded(s.hidden), query = padded(s.query);
        note(g, shared.d_out);
        low_back(layer, DOWN, g, s.hidden, s.hidden, o + kept.active, s.inner);
        product(l.down_back, g, d_active);
        enter_back(layer, DOWN, s.inner, d_active, inner);
        swiglu_back(d_active, inner, o + kept.gate_up, padded(2 * s.inner), s.tokens, s.inner, d_gate_up);
        low_back(layer, GATE, d_gate_up, 2 * s.inner, s.inner, o + kept.second, s.hidden);
        low_back(layer, UP, d_gate_up + s.inner, 2 * s.inner, s.inner, o + kept.second, s.hidden);
        product(l.gate_up_back, d_gate_up, out);
        enter_back(layer, GATE, s.hidden, out, hidden);
        enter_back(layer, UP, s.hidden, out, hidden);
        norm_back(out, hidden, o + kept.middle, o + kept.second_inverse, s.tokens, s.hidden, l.mlp_norm, g);
        note(g, shared.d_middle);
        low_back(layer, O, g, s.hidden, s.hidden, o + kept.attended, s.query);
        product(l.o_back, g, d_attended);
        enter_back(layer, O, s.query, d_attended, query);
        attention_back(layer, d_attended, query, d_qkv);
        low_back(layer, Q, d_qkv, s.qkv, s.query, o + kept.first, s.hidden);
        low_back(layer, K, d_qkv + s.query, s.qkv, s.key, o + kept.first, s.hidden);
        low_back(layer, V, d_qkv + s.query + s.key, s.qkv, s.key, o + kept.first, s.hidden);
        product(l.qkv_back, d_qkv, out);
        for (const Target target : {Q, K, V}) enter_back(layer, target, s.hidden, out, hidden);
        norm_back(out, hidden, entered(layer), o + kept.first_inverse, s.tokens, s.hidden, l.input_norm, g);
    }

    // For a watcher: what changes before it is told.
    void note(const float* g, int64_t place) const {
        if (p.watch != nullptr) std::copy(g, g + (size_t)s.tokens * s.hidden, at(place));
    }

    void attention_back(int layer, const float* g, int g_stride, float* d_qkv) const {
        const float* qkv = own(layer) + kept.qkv;
        std::fill(d_qkv, d_qkv + (size_t)s.tokens * s.qkv, 0.0f);
        for (int head = 0; head < p.heads; ++head) {
            const int from = head * p.head_dim, key = s.query + head / (p.heads / p.kv_heads) * p.head_dim;
            if (again) attend_head(layer, head);
            attend_back(g + from, g_stride, qkv + from, qkv + key, qkv + key + s.key, padded(s.qkv), s.tokens, p.head_dim,
                        odds(layer, head), d_qkv + from, d_qkv + key, d_qkv + key + s.key, s.qkv, at(shared.pull));
        }
        rotate(d_qkv, s.qkv, s.tokens, p.heads + p.kv_heads, p.head_dim, p.cosines, p.sines, true);
    }
};

}  // namespace

extern "C" {

// Numbers that `room` must have.
int64_t commonlore_passes_room(const Passes* passes) { return Pass(*passes).room(); }

void commonlore_passes_forward(const Passes* passes) { Pass(*passes).forward(); }

void commonlore_passes_backward(const Passes* passes) { Pass(*passes).backward(); }

// Where a watcher finds what entered the linears of a layer (first: q, k, v; attended: o; second: gate, up;
// active: down) and scale * A x, in the layer's part; and in the shared part the gradients at their outputs and at
// A x; then how far apart layers' parts are (0 of a long example: there is one) and the size of the
// shared part, which comes first.
void commonlore_passes_places(const Passes* passes, int64_t* places) {
    const bool again = is_long(*passes);
    const Kept k = kept_places(*passes, again);
    const Shared h = shared_places(*passes);
    const int64_t found[] = {k.first, k.attended, k.second, k.active, k.squeezed, h.d_qkv, h.d_middle, h.d_gate_up, h.d_out, h.back, again ? 0 : k.size, h.size};
    std::copy(std::begin(found), std::end(found), places);
}

// Whitened gradients of `count` tensors into `width` buckets, a power of two, which are zero before; `room` fits the
// largest tensor (`whiten.h`).
void commonlore_passes_project(const Whitening* tensors, int32_t count, const uint32_t* draws, int32_t width,
                               double* buckets, float* room) {
    for (int32_t number = 0; number < count; ++number) {
        const int64_t size = whiten(tensors[number], room);
        scatter(room, size, draws, (uint32_t)width - 1, buckets);
        draws += size;
    }
}

void commonlore_passes_sizes(int64_t* sizes) {
    sizes[0] = sizeof(Low), sizes[1] = sizeof(Layer), sizes[2] = sizeof(Passes), sizes[3] = sizeof(Whitening);
}
}
