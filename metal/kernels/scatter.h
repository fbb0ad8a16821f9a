// Sums N values, and their rests if WIDE, over the slots of a simdgroup. Every step halves what a lane holds while that
// comes out even, so that the lanes end with different values: `first` is the index of the lane's first one, `kept` how
// many it has.
template <int N, int STEP, int LPK, bool WIDE>
struct Scatter {
  static constant constexpr bool halves = N % 2 == 0;
  static constant constexpr int left = halves ? N / 2 : N;
  typedef Scatter<left, (STEP > LPK ? STEP / 2 : 0), LPK, WIDE> Next;
  static inline void sum(thread float* o, thread float* rest, uint lane, thread int& first) {
    bool high = (lane & uint(STEP)) != 0;
    FULLY
    for (int i = 0; i < left; i++) {
      constexpr int apart = halves ? N / 2 : 0;
      float keep = high ? o[i + apart] : o[i], give = high ? o[i] : o[i + apart];
      float keep_rest = high ? rest[i + apart] : rest[i], give_rest = high ? rest[i] : rest[i + apart];
      o[i] = add_lane<WIDE>(keep, give, keep_rest, give_rest, STEP);
      rest[i] = keep_rest;
    }
    first += halves && high ? N / 2 : 0;
    Next::sum(o, rest, lane, first);
  }
  static constant constexpr int kept = Next::kept;
  // Lanes with one of these bits hold copies.
  static constant constexpr uint copies = (halves ? 0u : uint(STEP)) | Next::copies;
};
template <int N, int LPK, bool WIDE>
struct Scatter<N, 0, LPK, WIDE> {
  static inline void sum(thread float*, thread float*, uint, thread int&) {}
  static constant constexpr int kept = N;
  static constant constexpr uint copies = 0u;
};
