// The most attended positions: lists from the highest score down, of equal scores the smaller position first.

struct Found {
  float score;
  int at;  // -1: nothing
};

inline Found nothing() {
  Found found = {-INFINITY, -1};
  return found;
}

inline bool first(Found a, Found b) {
  return a.score > b.score || (a.score == b.score && uint(a.at) < uint(b.at));
}

// Puts what was found in its place of a list of N; what comes after the last is lost.
template <int N>
inline void insert(thread Found* list, Found found) {
  FULLY
  for (int i = 0; i < N; i++) {
    Found held = list[i];
    bool before = first(found, held);
    list[i].score = before ? found.score : held.score;
    list[i].at = before ? found.at : held.at;
    found.score = before ? held.score : found.score;
    found.at = before ? held.at : found.at;
  }
}

// The best of the lists' heads, of lanes that differ in the bits FROM, 2 FROM, ..., taken from the list that had it.
template <int N, int FROM>
inline Found take(thread Found* list) {
  Found best = list[0];
  for (int lanes = FROM; lanes < 32; lanes *= 2) {
    Found other = {simd_shuffle_xor(best.score, ushort(lanes)), simd_shuffle_xor(best.at, ushort(lanes))};
    bool before = first(other, best);
    best.score = before ? other.score : best.score;
    best.at = before ? other.at : best.at;
  }
  if (best.at >= 0 && list[0].at == best.at) {
    FULLY
    for (int i = 1; i < N; i++) {
      list[i - 1] = list[i];
    }
    list[N - 1] = nothing();
  }
  return best;
}
