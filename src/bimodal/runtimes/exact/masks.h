/* The leaves of a group of rows in one tree by masks (see masks.py), written once for each width of vectors. Included by
 * trees.c with WIDTH (bytes), NAME(x) and TARGET (an attribute). Fills leaf [4 * WIDTH] from columns of bytes. */

typedef int8_t NAME(vector) __attribute__((vector_size(WIDTH)));

#define EACH(what) what(0) what(1) what(2) what(3)
#define START(i) NAME(vector) live##i = {0}, low##i = {0}, base##i = {0};
#define ALL(i) live##i = ~(NAME(vector)){0};
#define TEST(i) live##i &= ~((x[i] > cut) & mask);
#define KEEP(i)                                                                                                        \
  {                                                                                                                    \
    NAME(vector) some = live##i != 0;                                                                                  \
    low##i = (live##i & some) | (low##i & ~some);                                                                      \
    base##i = (at & some) | (base##i & ~some);                                                                         \
  }
#define PLACE(i)                                                                                                       \
  low##i &= -low##i;                                                                                                   \
  base##i |= (((low##i & 0x0f) == 0) & 4) | (((low##i & 0x33) == 0) & 2) | (((low##i & 0x55) == 0) & 1);               \
  ((NAME(vector) *)leaf)[i] = base##i;

TARGET static void NAME(leaves)(const masks *m, size_t tree, const int8_t *bytes, uint8_t *leaf) {
  EACH(START)
  for (int64_t plane = m->tree[tree + 1] - 1; plane >= m->tree[tree]; plane--) {
    const test *t = m->tests + m->plane[plane], *end = m->tests + m->plane[plane + 1];
    NAME(vector) at = (NAME(vector)){0} + (int8_t)((plane - m->tree[tree]) * 8);
    EACH(ALL)
    for (; t < end; t++) {
      const NAME(vector) *x = (const NAME(vector) *)(bytes + (size_t)t->column * BLOCK);
      NAME(vector) cut = (NAME(vector)){0} + t->cut, mask = (NAME(vector)){0} + (int8_t)t->mask;
      EACH(TEST)
    }
    EACH(KEEP)
  }
  EACH(PLACE)
}

#undef EACH
#undef START
#undef ALL
#undef TEST
#undef KEEP
#undef PLACE
