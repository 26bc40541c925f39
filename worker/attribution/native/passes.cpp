// A forward and a backward pass of one example through a decoder of the Llama family with one adapter: what an
// adapter's parameters get of a loss. Products with the base's weights round what they multiply to bf16 and sum
// in fp32 (`linear.h`); everything else is fp32.
//
// Rules of this file:
// - The base's weights get no gradient; the adapter's are written to `down_gradient` and `up_gradient`.
// - The caller checks all sizes, and gives `room` of as many numbers as `commonlore_passes_room` says. What the
//   forward pass leaves there the backward pass reads.
// - The same inputs give the same bits on any number of threads.

#include <algorithm>
#include <iterator>

#include "../../engine/native/linear.h"
#include "pieces.h"
#include "whiten.h"

namespace {

enum Target : int32_t { Q, K, V, O, GATE, UP, DOWN, TARGETS };

struct Low {
    const float *down, *up;  // [rank][in], [rank][out]; null where the adapter has none
    float *down_gradient, *up_gradient;
};

struct Layer {
    const float *input_norm, *mlp_norm;
    Linear qkv, o, gate_up, down;
    Linear qkv_back, o_back, gate_up_back, down_back;  // the same weights transposed
    Low low[TARGETS];
};

struct Passes {
    int32_t tokens, hidden, intermediate, layers, heads, kv_heads, head_dim, rank, threads;
    float epsilon, scale;
    int32_t unused;
    Layer* layer;
    const float *cosines, *sines;  // [tokens][head_dim]
    float* states;                 // [tokens][hidden]: forwards in and out, backwards gradients out and in
    float* room;
    void (*watch)(int32_t layer);  // told after each layer's backward pass; may be null
};

// Where things stand in `room`: what every layer keeps, and what one layer at a time uses.
struct Places {
    int64_t at = 0;
    int64_t take(int64_t count) {
        const int64_t place = at;
        at += (count + LANES - 1) / LANES * LANES;
        return place;
    }
};

struct Kept {
    int64_t entered, first_inverse, first, qkv, odds, attended, middle, second_inverse, second, gate_up, active, squeezed, size;
};

struct Shared {
    int64_t out, d_out, d_active, d_gate_up, d_middle, d_attended, d_qkv, back, pull, rounded, size;
};

struct Sizes {
    int tokens, hidden, query, key, qkv, inner;
    explicit Sizes(const Passes& p)
        : tokens(p.tokens), hidden(p.hidden), query(p.heads * p.head_dim), key(p.kv_heads * p.head_dim),
          qkv(query + 2 * key), inner(p.intermediate) {}
};

Kept kept_places(const Passes& p) {
    const Sizes s(p);
    const int64_t n = s.tokens;
    Places places;
    Kept k;
    k.entered = places.take(n * s.hidden), k.first_inverse = places.take(n), k.first = places.take(n * s.hidden);
    k.qkv = places.take(n * padded(s.qkv)), k.odds = places.take((int64_t)p.heads * n * n);
    k.attended = places.take(n * s.query), k.middle = places.take(n * s.hidden), k.second_inverse = places.take(n);
    k.second = places.take(n * s.hidden), k.gate_up = places.take(n * padded(2 * s.inner));
    k.active = places.take(n * s.inner), k.squeezed = places.take(n * TARGETS * p.rank);
    k.size = places.at;
    return k;
}

Shared shared_places(const Passes& p) {
    const Sizes s(p);
    const int64_t n = s.tokens;
    Places places;
    Shared k;
    k.d_out = places.take(n * s.hidden), k.d_middle = places.take(n * s.hidden);
    k.out = places.take(n * padded(s.hidden)), k.d_active = places.take(n * padded(s.inner));
    k.d_gate_up = places.take(n * 2 * s.inner), k.d_attended = places.take(n * padded(s.query));
    k.d_qkv = places.take(n * s.qkv), k.back = places.take(n * TARGETS * p.rank), k.pull = places.take(n);
    k.rounded = places.take(n * std::max({s.hidden, s.query, s.qkv, 2 * s.inner}) / 2 + LANES);
    k.size = places.at;
    return k;
}

class Pass {
   public:
    explicit Pass(const Passes& p) : p(p), s(p), kept(kept_places(p)), shared(shared_places(p)) {}

    void forward() {
        for (int layer = 0; layer < p.layers; ++layer) forward(layer);
    }

    void backward() {
        for (int layer = p.layers - 1; layer >= 0; --layer) {
            backward(layer);
            if (p.watch != nullptr) p.watch(layer);
        }
    }

   private:
    const Passes& p;
    const Sizes s;
    const Kept kept;
    const Shared shared;

    float* own(int layer) const { return p.room + shared.size + layer * kept.size; }
    float* at(int64_t place) const { return p.room + place; }

    // y = x W^T, both rounded to bf16.
    void product(const Linear& linear, const float* x, float* y) const {
        bf16* rounded = (bf16*)at(shared.rounded);
        const int64_t count = (int64_t)s.tokens * linear.in;
        for (int64_t k = 0; k < count; k += LANES) {
            const __mmask16 mask = lanes_left((int)std::min<int64_t>(LANES, count - k));
            _mm256_mask_storeu_epi16(rounded + k, mask, to_bf16(_mm512_maskz_loadu_ps(mask, x + k)));
        }
        multiply(linear, rounded, s.tokens, y, nullptr, p.threads);
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

    void forward(int layer) const {
        const Layer& l = p.layer[layer];
        float* o = own(layer);
        float *entered = o + kept.entered, *first = o + kept.first, *qkv = o + kept.qkv, *middle = o + kept.middle;
        float *second = o + kept.second, *gate_up = o + kept.gate_up, *active = o + kept.active, *out = at(shared.out);
        const int stride = padded(s.qkv), wide = padded(2 * s.inner), hidden = padded(s.hidden);
        std::copy(p.states, p.states + (size_t)s.tokens * s.hidden, entered);
        norm(entered, s.tokens, s.hidden, l.input_norm, p.epsilon, first, o + kept.first_inverse);
        product(l.qkv, first, qkv);
        add_low(layer, Q, first, s.hidden, qkv, stride, s.query);
        add_low(layer, K, first, s.hidden, qkv + s.query, stride, s.key);
        add_low(layer, V, first, s.hidden, qkv + s.query + s.key, stride, s.key);
        rotate(qkv, stride, s.tokens, p.heads + p.kv_heads, p.head_dim, p.cosines, p.sines, false);
        for (int head = 0; head < p.heads; ++head) {
            const int shared_head = head / (p.heads / p.kv_heads) * p.head_dim;
            attend(qkv + head * p.head_dim, qkv + s.query + shared_head, qkv + s.query + s.key + shared_head, stride,
                   s.tokens, p.head_dim, o + kept.odds + (int64_t)head * s.tokens * s.tokens,
                   o + kept.attended + head * p.head_dim, s.query);
        }
        product(l.o, o + kept.attended, out);
        add_low(layer, O, o + kept.attended, s.query, out, hidden, s.hidden);
        add_rows(middle, entered, out, hidden);
        norm(middle, s.tokens, s.hidden, l.mlp_norm, p.epsilon, second, o + kept.second_inverse);
        product(l.gate_up, second, gate_up);
        add_low(layer, GATE, second, s.hidden, gate_up, wide, s.inner);
        add_low(layer, UP, second, s.hidden, gate_up + s.inner, wide, s.inner);
        swiglu(gate_up, wide, s.tokens, s.inner, active);
        product(l.down, active, out);
        add_low(layer, DOWN, active, s.inner, out, hidden, s.hidden);
        add_rows(p.states, middle, out, hidden);
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
        attention_back(o, d_attended, query, d_qkv);
        low_back(layer, Q, d_qkv, s.qkv, s.query, o + kept.first, s.hidden);
        low_back(layer, K, d_qkv + s.query, s.qkv, s.key, o + kept.first, s.hidden);
        low_back(layer, V, d_qkv + s.query + s.key, s.qkv, s.key, o + kept.first, s.hidden);
        product(l.qkv_back, d_qkv, out);
        for (const Target target : {Q, K, V}) enter_back(layer, target, s.hidden, out, hidden);
        norm_back(out, hidden, o + kept.entered, o + kept.first_inverse, s.tokens, s.hidden, l.input_norm, g);
    }

    // For a watcher: what changes before it is told.
    void note(const float* g, int64_t place) const {
        if (p.watch != nullptr) std::copy(g, g + (size_t)s.tokens * s.hidden, at(place));
    }

    void attention_back(const float* o, const float* g, int g_stride, float* d_qkv) const {
        const float* qkv = o + kept.qkv;
        const int stride = padded(s.qkv);
        std::fill(d_qkv, d_qkv + (size_t)s.tokens * s.qkv, 0.0f);
        for (int head = 0; head < p.heads; ++head) {
            const int from = head * p.head_dim, key = s.query + head / (p.heads / p.kv_heads) * p.head_dim;
            attend_back(g + from, g_stride, qkv + from, qkv + key, qkv + key + s.key, stride, s.tokens, p.head_dim,
                        o + kept.odds + (int64_t)head * s.tokens * s.tokens, d_qkv + from, d_qkv + key,
                        d_qkv + key + s.key, s.qkv, at(shared.pull));
        }
        rotate(d_qkv, s.qkv, s.tokens, p.heads + p.kv_heads, p.head_dim, p.cosines, p.sines, true);
    }
};

}  // namespace

extern "C" {

// Numbers that `room` must have.
int64_t commonlore_passes_room(const Passes* passes) {
    return shared_places(*passes).size + passes->layers * kept_places(*passes).size;
}

void commonlore_passes_forward(const Passes* passes) { Pass(*passes).forward(); }

void commonlore_passes_backward(const Passes* passes) { Pass(*passes).backward(); }

// Where a watcher finds what entered the linears of a layer (first: q, k, v; attended: o; second: gate, up;
// active: down) and scale * A x, in the layer's part; and in the shared part the gradients at their outputs and at
// A x; then the size of a layer's part and of the shared part, which comes first.
void commonlore_passes_places(const Passes* passes, int64_t* places) {
    const Kept k = kept_places(*passes);
    const Shared h = shared_places(*passes);
    const int64_t found[] = {k.first, k.attended, k.second, k.active, k.squeezed, h.d_qkv, h.d_middle, h.d_gate_up, h.d_out, h.back, k.size, h.size};
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
