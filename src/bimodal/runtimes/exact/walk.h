/* Walks from root to leaf, written once for both kinds of node. Included by trees.c with
 *
 *   NODE, REAL           the node and the number that it compares
 *   FEATURE(n), STEP(n)  its column; how far behind it its left child stands, 0 at a leaf
 *   NAME(x)              x with the kind's name before it
 *   PAYLOAD              the bits of a leaf's threshold that are its row of values
 *
 * Siblings stand side by side, so a step is `n + STEP(n) + (x > threshold)`. A leaf's threshold is a NaN: nothing is above
 * it, and every further step stays there. Nothing branches; several walks side by side hide each other's latency. */

static inline const NODE *NAME(step)(const NODE *n, REAL x) { return n + STEP(n) + (x > n->threshold); }

/* The same where missing values, zeros or categories have rules of their own. */
static inline const NODE *NAME(special)(const forest *f, const NODE *n, REAL x) {
  uint8_t kind = f->kinds[n - (const NODE *)f->nodes.buf];
  int right = x > n->threshold;
  if (kind & CATEGORY)
    right = x != x ? kind & MISSING_RIGHT : !among(f, (size_t)n->threshold, (double)x);
  else
    right = (x != x) | ((kind & ZERO_MISSING) && x >= -TINY && x <= TINY) ? kind & MISSING_RIGHT : right;
  return n + STEP(n) + right;
}

#define NEXT(p, k) (rules ? NAME(special)(f, p, x[(size_t)FEATURE(p) * BLOCK + (k)]) : NAME(step)(p, x[(size_t)FEATURE(p) * BLOCK + (k)]))
#define PLACE(p) ((p)->bits & PAYLOAD)

/* One tree, rows [0, count) of a block of columns, eight side by side; count is a multiple of eight. */
static inline __attribute__((always_inline)) void NAME(tree)(const forest *f, size_t tree, const REAL *x, size_t count,
                                                             uint32_t *leaf, const int rules) {
  const NODE *root = (const NODE *)f->nodes.buf + f->root[tree];
  for (size_t i = 0; i < count; i += 8, x += 8, leaf += 8) {
    const NODE *a = root, *b = root, *c = root, *d = root, *e = root, *g = root, *h = root, *k = root;
    for (uint32_t left = f->depth[tree]; left > 0;) {
      uint32_t steps = left < STRIDE ? left : STRIDE;
      left -= steps;
      for (; steps > 0; steps--) {
        a = NEXT(a, 0), b = NEXT(b, 1), c = NEXT(c, 2), d = NEXT(d, 3);
        e = NEXT(e, 4), g = NEXT(g, 5), h = NEXT(h, 6), k = NEXT(k, 7);
      }
      if (!(STEP(a) | STEP(b) | STEP(c) | STEP(d) | STEP(e) | STEP(g) | STEP(h) | STEP(k))) break;
    }
    leaf[0] = PLACE(a), leaf[1] = PLACE(b), leaf[2] = PLACE(c), leaf[3] = PLACE(d);
    leaf[4] = PLACE(e), leaf[5] = PLACE(g), leaf[6] = PLACE(h), leaf[7] = PLACE(k);
  }
}
#undef NEXT
#define NEXT(p) (rules ? NAME(special)(f, p, x[FEATURE(p)]) : NAME(step)(p, x[FEATURE(p)]))

/* One row, all trees, eight of like depth side by side. */
static inline __attribute__((always_inline)) void NAME(row)(const forest *f, const REAL *x, uint32_t *leaf, const int rules) {
  const NODE *nodes = f->nodes.buf;
  const uint32_t *t = f->order;
  size_t done = 0;
  for (; done + 8 <= f->trees; done += 8, t += 8) {
    const NODE *a = nodes + f->root[t[0]], *b = nodes + f->root[t[1]], *c = nodes + f->root[t[2]];
    const NODE *d = nodes + f->root[t[3]], *e = nodes + f->root[t[4]], *g = nodes + f->root[t[5]];
    const NODE *h = nodes + f->root[t[6]], *k = nodes + f->root[t[7]];
    for (uint32_t left = f->depth[t[7]]; left > 0;) {
      uint32_t steps = left < STRIDE ? left : STRIDE;
      left -= steps;
      for (; steps > 0; steps--) {
        a = NEXT(a), b = NEXT(b), c = NEXT(c), d = NEXT(d);
        e = NEXT(e), g = NEXT(g), h = NEXT(h), k = NEXT(k);
      }
      if (!(STEP(a) | STEP(b) | STEP(c) | STEP(d) | STEP(e) | STEP(g) | STEP(h) | STEP(k))) break;
    }
    leaf[t[0]] = PLACE(a), leaf[t[1]] = PLACE(b), leaf[t[2]] = PLACE(c), leaf[t[3]] = PLACE(d);
    leaf[t[4]] = PLACE(e), leaf[t[5]] = PLACE(g), leaf[t[6]] = PLACE(h), leaf[t[7]] = PLACE(k);
  }
  for (; done < f->trees; done++, t++) {
    const NODE *a = nodes + f->root[*t];
    for (uint32_t left = f->depth[*t]; left > 0 && STEP(a); left--) a = NEXT(a);
    leaf[*t] = PLACE(a);
  }
}

/* Is a table safe to walk? Every step leads further on, and stays in its tree; every column, leaf and set exists. Also
 * finds the depth of each tree. `below` has a number for each node. */
static const char *NAME(check)(forest *f, uint32_t *below) {
  const NODE *nodes = f->nodes.buf;
  memset(below, 0, f->count * sizeof *below);
  for (size_t t = 0; t < f->trees; t++) {
    uint32_t deepest = 0;
    size_t end = (size_t)f->root[t + 1];
    for (size_t i = (size_t)f->root[t]; i < end; i++) {
      size_t child = i + STEP(nodes + i);
      uint32_t under = below[i] + 1;
      if (below[i] == 0 && i != (size_t)f->root[t]) return "a node has no parent";
      if (child == i) {
        if (nodes[i].threshold == nodes[i].threshold || PLACE(nodes + i) >= f->leaves || FEATURE(nodes + i) != 0)
          return "a leaf is damaged";
        if (f->has_kinds && f->kinds[i]) return "a leaf is damaged";
        continue;
      }
      if (child < i || child + 1 >= end) return "a child is out of its tree";
      if ((size_t)FEATURE(nodes + i) >= f->used) return "a column is out of range";
      if (nodes[i].threshold != nodes[i].threshold) return "a threshold is no number";
      if (f->has_kinds && (f->kinds[i] & CATEGORY) &&
          !(nodes[i].threshold >= 0 && nodes[i].threshold < (double)f->sets))
        return "a set of categories is out of range";
      if (below[child] != 0) return "a node has several parents";
      if (below[child + 1] != 0) return "a node has several parents";
      below[child] = below[child + 1] = under;
      if (deepest < under) deepest = under;
    }
    f->depth[t] = deepest;
  }
  return NULL;
}

/* How many of the cuts lie below each number of a column: none below a missing one. count is one less than a power of two.
 * Eight searches side by side. */
static void NAME(ranks)(const REAL *cuts, size_t count, const REAL *x, uint16_t *rank) {
  for (size_t i = 0; i < BLOCK; i += 8) {
    size_t at[8] = {0};
    for (size_t half = (count + 1) / 2; half > 0; half /= 2) {
#pragma GCC unroll 8
      for (int k = 0; k < 8; k++) at[k] += cuts[at[k] + half - 1] < x[i + k] ? half : 0;
    }
#pragma GCC unroll 8
    for (int k = 0; k < 8; k++) rank[i + k] = (uint16_t)at[k];
  }
}

/* A column of bytes: where each number stands among SPAN cuts. A missing number stands before or behind them all. */
static void NAME(bytes)(const forest *f, const bytes *b, const REAL *x, const uint16_t *rank, int missing, int8_t *out) {
  if (b->kind & CATEGORY) {
    for (size_t i = 0; i < BLOCK; i++)
      out[i] = (x[i] != x[i] ? b->kind & MISSING_RIGHT : !among(f, (size_t)b->set, (double)x[i])) ? 127 : -128;
    return;
  }
  int16_t low = (int16_t)b->low;
  for (size_t i = 0; i < BLOCK; i++) {
    int32_t place = (int32_t)rank[i] - low;
    place = place < 0 ? 0 : place;
    out[i] = (int8_t)((place > SPAN ? SPAN : place) - 128);
  }
  if (!missing && !(b->kind & ZERO_MISSING)) return;
  int8_t side = b->kind & MISSING_RIGHT ? 127 : -128;
  for (size_t i = 0; i < BLOCK; i++)
    if (x[i] != x[i] || ((b->kind & ZERO_MISSING) && x[i] >= -TINY && x[i] <= TINY)) out[i] = side;
}

/* All columns of bytes of a block. */
static void NAME(encode)(const forest *f, const REAL *block, int missing, int8_t *out) {
  const masks *m = &f->masks;
  uint16_t rank[BLOCK] = {0};
  int32_t ranked = -1;
  for (size_t v = 0; v < m->wide; v++, out += BLOCK) {
    const bytes *b = m->bytes + v;
    const REAL *x = block + (size_t)b->column * BLOCK;
    if (b->column != ranked && !(b->kind & CATEGORY)) {
      size_t start = (size_t)m->start[b->column];
      NAME(ranks)((const REAL *)m->cuts + start, (size_t)m->start[b->column + 1] - start, x, rank);
      ranked = b->column;
    }
    NAME(bytes)(f, b, x, rank, missing, out);
  }
}

#undef NEXT
#undef PLACE
