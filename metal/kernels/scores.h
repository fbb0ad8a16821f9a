// Scores that keep what their sums round off: a score is `s + rest`. Where that is not kept, the rests stay 0.

// a + b, and what that rounds off added to `rest`. V is a float or a vector of them.
template <typename V>
inline V add(V a, V b, thread V& rest) {
  V sum = a + b;
  V part = sum - a;
  rest += (a - (sum - part)) + (b - part);
  return sum;
}

// sum + a b, likewise. Also right where the compiler makes the product and the sum one rounding.
inline float add_product(float sum, float a, float b, thread float& rest) {
  float product = a * b;
  rest += fma(a, b, -product);
  return add(sum, product, rest);
}

// mine + what the lane that differs in the bits `lanes` gives; if WIDE, both have rests.
template <bool WIDE>
inline float add_lane(float mine, float give, thread float& rest, float give_rest, int lanes) {
  float other = simd_shuffle_xor(give, ushort(lanes));
  if (!WIDE) {
    return mine + other;
  }
  rest += simd_shuffle_xor(give_rest, ushort(lanes));
  return add(mine, other, rest);
}

// sum + q k over N values; with WIDE, what that rounds off is added to `rest`. Else four sums side by side, joined as a
// tree: one long sum would round more than stock's, which spreads a row over 32 lanes.
template <int N, bool WIDE>
inline float dot(threadgroup const float* q, thread const float* k, float sum, thread float& rest) {
  if (WIDE) {
    FULLY
    for (int i = 0; i < N; i++) {
      sum = add_product(sum, q[i], k[i], rest);
    }
    return sum;
  }
  float4 four = float4(q[0], q[1], q[2], q[3]) * float4(k[0], k[1], k[2], k[3]);
  FULLY
  for (int i = 4; i < N; i += 4) {
    four = fma(float4(q[i], q[i + 1], q[i + 2], q[i + 3]), float4(k[i], k[i + 1], k[i + 2], k[i + 3]), four);
  }
  return sum + ((four.x + four.y) + (four.z + four.w));
}

// The largest score so far. Weights are relative to it with its rest, so that its own is exactly 1.
struct Peak {
  float s, rest;
};

// The larger of the two.
inline Peak larger(Peak a, Peak b) {
  bool second = b.s > a.s || (b.s == a.s && b.rest > a.rest);
  Peak found = {second ? b.s : a.s, second ? b.rest : a.rest};
  return found;
}

// The largest of the lanes that differ in the bits FROM, 2 FROM, ... below TO; there are no rests unless WIDE.
template <int FROM, int TO, bool WIDE>
inline Peak largest(Peak mine) {
  for (int lanes = FROM; lanes < TO; lanes *= 2) {
    Peak other = {simd_shuffle_xor(mine.s, ushort(lanes)), 0.0f};
    if (WIDE) {
      other.rest = simd_shuffle_xor(mine.rest, ushort(lanes));
    }
    mine = larger(mine, other);
  }
  return mine;
}

// The log2 of a score's weight, which is 2^(unit (score - peak)).
inline float depth(float s, float rest, Peak peak, float unit) {
  return ((s - peak.s) + (rest - peak.rest)) * unit;
}

// The natural logarithm of the sum of exp(score), where `total` is the sum of the weights.
inline float log_sum(Peak peak, float total, float unit) {
  return total > 0.0f ? fma(peak.s, unit, fma(peak.rest, unit, metal::precise::log2(total))) * LN2 : -INFINITY;
}

// The entropy of the weights in nats; `mean` is the sum of weight times its log2.
inline float entropy_of(float total, float mean) {
  return total > 0.0f ? (metal::precise::log2(total) - mean / total) * LN2 : 0.0f;
}
