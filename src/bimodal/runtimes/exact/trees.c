/* The type Trees: flat tables of nodes, walked for every row. The Python class of the same name makes the tables.
 *
 * Everything that comes in is checked once, when a Trees is made; from then on the tables are only read. Columns are first
 * copied, BLOCK rows at a time, column by column, so that a walk needs one address for all rows side by side. A row's sums
 * are made in the order of the trees, whatever else is in the block. */
#include "kernels.h"

#include <stdlib.h>
#include <string.h>

#define BLOCK_BITS 9
#define BLOCK (1 << BLOCK_BITS) /* rows copied at a time */
#define FEW 8      /* fewer rows are walked one by one, several trees side by side */
#define STRIDE 4   /* steps between two looks whether all walks have arrived */
#define BRIEF 4096 /* fewer walks are done before another thread would have started */
#define SOME 48    /* fewer rows of a block are walked even where there are masks */
#define SPAN 255   /* cuts that a byte tells apart */
#define TINY ((double)1e-35f) /* what counts as zero where zeros are missing: as the libraries write it */

enum { MISSING_RIGHT = 1, ZERO_MISSING = 2, CATEGORY = 4 }; /* kinds of node */
enum { ROUNDED = 1, SINGLE = 2, NARROW = 4, FINITE = 8, COMPLETE = 16 }; /* flags of a Trees: see trees.py */

typedef struct {
  union {
    float threshold;
    uint32_t bits;
  };
  uint32_t link; /* step << 12 | column */
} narrow;

typedef struct {
  union {
    double threshold;
    uint64_t bits;
  };
  uint32_t column, step;
} wide;

typedef struct {
  uint16_t column;
  int8_t cut;
  uint8_t mask;
} test; /* rows with a larger byte are not on these leaves */

typedef struct {
  int32_t column, low, set, kind;
} bytes; /* how a column of bytes is made */

typedef struct { /* see masks.py */
  Py_buffer held[7];
  const void *cuts;
  const int64_t *start; /* [used + 1] */
  const bytes *bytes;   /* [wide] */
  const test *tests;
  const int64_t *plane; /* [planes + 1] */
  const int64_t *tree;  /* [trees + 1] */
  const uint32_t *leaf; /* [planes * 8] */
  size_t wide, planes;
  void *values; /* [planes * 8, outputs]: what each leaf adds; NULL where there are no masks */
} masks;

typedef struct {
  PyObject_HEAD
  Py_buffer nodes, kinds_, roots_, firsts_, columns_, values, base, offsets_, words_;
  const uint8_t *kinds;
  uint8_t *padded_kinds;   /* the same, and a few zeros: read four at a time */
  const int64_t *root;     /* [trees + 1] */
  const int32_t *first;    /* [trees] */
  const int32_t *column;   /* [used] the prepared column of each column of a block */
  const int64_t *offsets;  /* [sets + 1] of each set of categories in words */
  const uint32_t *words;
  uint32_t *depth, *order; /* [trees]; trees by depth */
  size_t count, trees, used, width, leaves, outputs, k, sets;
  int flags, has_kinds, has_sets, missing_matters;
  masks masks;
} forest;

/* Does the set hold this category? Fractions are cut off, as the libraries do. */
static int among(const forest *f, size_t set, double x) {
  size_t start = (size_t)f->offsets[set], size = (size_t)f->offsets[set + 1] - start;
  if (!(x > -1 && x < (double)size * 32) || (x < 0 && (f->flags & SINGLE))) return 0;
  uint64_t category = (uint64_t)(int64_t)x;
  return category < size * 32 && (f->words[start + category / 32] >> category % 32 & 1);
}

#define NAME(x) narrow_##x
#define NODE narrow
#define REAL float
#define FEATURE(n) ((n)->link & 4095)
#define STEP(n) ((n)->link >> 12)
#define PAYLOAD 0x3fffff
#include "walk.h"
#undef NAME
#undef NODE
#undef REAL
#undef FEATURE
#undef STEP
#undef PAYLOAD
#define NAME(x) wide_##x
#define NODE wide
#define REAL double
#define FEATURE(n) ((n)->column)
#define STEP(n) ((n)->step)
#define PAYLOAD 0xffffffff
#include "walk.h"
#undef NAME
#include "walk512.h"

/* -- scoring ------------------------------------------------------------------------------------------------------- */

/* Adds what the leaves of one tree give to the rows' scores. */
#define ADD_LEAVES(NAME, REAL, LEAF)                                                                                   \
  static void NAME(size_t k, size_t w, const REAL *restrict values, const LEAF *restrict leaf, size_t rows,            \
                   REAL *restrict out) {                                                                               \
    if (w == 1 && k == 1)                                                                                              \
      for (size_t i = 0; i < rows; i++) out[i] += values[leaf[i]];                                                     \
    else if (w == 1)                                                                                                   \
      for (size_t i = 0; i < rows; i++) out[i * k] += values[leaf[i]];                                                 \
    else if (w == 2)                                                                                                   \
      for (size_t i = 0; i < rows; i++) {                                                                              \
        out[i * k] += values[leaf[i] * (size_t)2];                                                                     \
        out[i * k + 1] += values[leaf[i] * (size_t)2 + 1];                                                             \
      }                                                                                                                \
    else                                                                                                               \
      for (size_t i = 0; i < rows; i++)                                                                                \
        for (size_t j = 0; j < w; j++) out[i * k + j] += values[leaf[i] * w + j];                                      \
  }
ADD_LEAVES(add_double, double, uint32_t)
ADD_LEAVES(add_float, float, uint32_t)
ADD_LEAVES(place_double, double, uint8_t)
ADD_LEAVES(place_float, float, uint8_t)

/* The scores of one row from its leaves; the scores to begin with. */
#define SUM(REAL)                                                                                                      \
  static inline void sum_##REAL(const forest *f, const uint32_t *leaf, REAL *out) {                                    \
    const REAL *values = f->values.buf;                                                                                \
    size_t w = f->outputs;                                                                                             \
    for (size_t t = 0; t < f->trees; t++)                                                                              \
      for (size_t j = 0; j < w; j++) out[(size_t)f->first[t] + j] += values[leaf[t] * w + j];                          \
  }                                                                                                                    \
  static inline void begin_##REAL(const forest *f, size_t rows, REAL *out) {                                           \
    for (size_t i = 0; i < rows; i++) memcpy(out + i * f->k, f->base.buf, f->k * sizeof(REAL));                        \
  }
SUM(double)
SUM(float)

/* What a block's numbers ask for: the rules of missing values, or a refusal. */
enum { PLAIN = 0, MISSING = 1, REFUSED = 2 };

#define HUGE32 0x1.ffffffp127 /* from here on, a number is infinite in float32 */

static int strange(const forest *f, double x) {
  double seen = f->flags & ROUNDED ? (double)(float)x : x;
  return seen - seen != 0 && (seen == seen || (f->flags & COMPLETE));
}

/* Is there a number that the library itself refuses? Looks quickly over many, and at each where there is a doubt. */
static int refused(const forest *f, const double *x, size_t rows) {
  size_t count = rows * f->width;
  for (; count >= 64; count -= 64, x += 64) {
    int64_t doubts = 0;
    for (int i = 0; i < 64; i++) doubts += !(x[i] < HUGE32 && x[i] > -HUGE32);
    for (int i = 0; doubts > 0 && i < 64; i++)
      if (strange(f, x[i])) return 1;
  }
  for (size_t i = 0; i < count; i++)
    if (strange(f, x[i])) return 1;
  return 0;
}

/* Copies the columns that the trees use, as REAL; the rows behind the last up to `padded` are zero. */
#define COPY(REAL)                                                                                                     \
  static int copy_##REAL(const forest *f, const double *x, size_t rows, size_t padded, size_t block, REAL *out) {      \
    int missing = 0, rounded = f->flags & ROUNDED;                                                                     \
    if ((f->flags & FINITE) && refused(f, x, rows)) return REFUSED;                                                    \
    for (size_t j = 0; j < f->used; j++, out += block) {                                                               \
      const double *from = x + f->column[j];                                                                           \
      for (size_t i = 0; i < rows; i++, from += f->width) {                                                            \
        out[i] = rounded ? (REAL)(float)*from : (REAL)*from;                                                           \
        missing |= *from != *from;                                                                                     \
      }                                                                                                                \
      for (size_t i = rows; i < padded; i++) out[i] = 0;                                                               \
    }                                                                                                                  \
    return missing ? MISSING : PLAIN;                                                                                  \
  }
COPY(float)
COPY(double)

static int copy(const forest *f, const double *x, size_t rows, size_t padded, size_t block, void *out) {
  return f->flags & NARROW ? copy_float(f, x, rows, padded, block, out) : copy_double(f, x, rows, padded, block, out);
}

static int rules(const forest *f, int seen) { return f->has_sets || (seen == MISSING && f->missing_matters); }

/* How many bytes a register of this processor holds; at most as many as asked for. */
static int registers(int most) {
#if defined(__x86_64__)
  if (most >= 64 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")) return 64;
  if (most >= 32 && __builtin_cpu_supports("avx2")) return 32;
#endif
  return most < 16 ? most : 16;
}

static size_t real_size(const forest *f) { return f->flags & NARROW ? sizeof(float) : sizeof(double); }

static void walk_row(const forest *f, const void *x, uint32_t *leaf, int seen) {
  if (f->flags & NARROW) {
    if (rules(f, seen)) narrow_row(f, x, leaf, 1);
    else narrow_row(f, x, leaf, 0);
  } else if (rules(f, seen)) wide_row(f, x, leaf, 1);
  else wide_row(f, x, leaf, 0);
}

static void walk_tree(const forest *f, size_t tree, const void *x, size_t padded, uint32_t *leaf, int seen,
                      int wide) {
  int ruled = rules(f, seen);
#if defined(__x86_64__)
  if ((f->flags & NARROW) && !f->has_sets && padded % WIDE_ROWS == 0 && wide >= 64) {
    narrow_tree_wide(f, tree, x, padded, leaf, ruled);
    return;
  }
#endif
  (void)wide;
  if (f->flags & NARROW) {
    if (ruled) narrow_tree(f, tree, x, padded, leaf, 1);
    else narrow_tree(f, tree, x, padded, leaf, 0);
  } else if (ruled) wide_tree(f, tree, x, padded, leaf, 1);
  else wide_tree(f, tree, x, padded, leaf, 0);
}

/* So many rows of a block are copied, the last ones empty: what the walks take. */
static size_t padding(size_t rows) { return rows <= 32 ? (rows + 7) / 8 * 8 : (rows + 63) / 64 * 64; }

static int score_few(const forest *f, const double *x, size_t rows, char *out, void *scratch, uint32_t *leaf) {
  size_t size = f->flags & SINGLE ? sizeof(float) : sizeof(double);
  for (size_t i = 0; i < rows; i++, x += f->width, out += f->k * size) {
    int seen = copy(f, x, 1, 1, 1, scratch);
    if (seen == REFUSED) return -1;
    walk_row(f, scratch, leaf, seen);
    if (f->flags & SINGLE) begin_float(f, 1, (float *)out), sum_float(f, leaf, (float *)out);
    else begin_double(f, 1, (double *)out), sum_double(f, leaf, (double *)out);
  }
  return 0;
}

#define WIDTH 16
#define NAME(x) x##_16
#define TARGET
#include "masks.h"
#undef WIDTH
#undef NAME
#undef TARGET
#if defined(__x86_64__)
#define WIDTH 32
#define NAME(x) x##_32
#define TARGET __attribute__((target("avx2")))
#include "masks.h"
#undef WIDTH
#undef NAME
#undef TARGET
#define WIDTH 64
#define NAME(x) x##_64
#define TARGET __attribute__((target("avx512bw")))
#include "masks.h"
#undef WIDTH
#undef NAME
#undef TARGET
#endif

typedef void (*leaves)(const masks *, size_t tree, const int8_t *bytes, uint8_t *leaf);

static leaves widest(int registers, size_t *group) {
#if defined(__x86_64__)
  if (registers >= 64) return *group = 4 * 64, leaves_64;
  if (registers >= 32) return *group = 4 * 32, leaves_32;
#endif
  (void)registers;
  return *group = 4 * 16, leaves_16;
}

/* A block by masks: no walk at all. */
static void score_masks(const forest *f, const void *block, size_t rows, int seen, char *out, int8_t *scratch, int wide) {
  const masks *m = &f->masks;
  size_t group, k = f->k, w = f->outputs;
  leaves find = widest(wide, &group);
  uint8_t leaf[4 * 64] __attribute__((aligned(64)));
  if (f->flags & NARROW) narrow_encode(f, block, seen == MISSING, scratch);
  else wide_encode(f, block, seen == MISSING, scratch);
  for (size_t start = 0; start < rows; start += group) {
    size_t count = rows - start < group ? rows - start : group;
    for (size_t t = 0; t < f->trees; t++) {
      size_t values = (size_t)m->tree[t] * 8 * w, score = start * k + (size_t)f->first[t];
      find(m, t, scratch + start, leaf);
      if (f->flags & SINGLE) place_float(k, w, (float *)m->values + values, leaf, count, (float *)out + score);
      else place_double(k, w, (double *)m->values + values, leaf, count, (double *)out + score);
    }
  }
}

static int score_block(const forest *f, const double *x, size_t rows, char *out, void *scratch, uint32_t *leaf,
                       int wide) {
  int masked = f->masks.values != NULL && rows >= SOME;
  size_t padded = masked ? BLOCK : padding(rows);
  int seen = copy(f, x, rows, padded, BLOCK, scratch);
  if (seen == REFUSED) return -1;
  if (f->flags & SINGLE) begin_float(f, rows, (float *)out);
  else begin_double(f, rows, (double *)out);
  if (masked) {
    score_masks(f, scratch, rows, seen, out, (int8_t *)scratch + f->used * BLOCK * real_size(f), wide);
    return 0;
  }
  for (size_t t = 0; t < f->trees; t++) {
    walk_tree(f, t, scratch, padded, leaf, seen, wide);
    if (f->flags & SINGLE) add_float(f->k, f->outputs, f->values.buf, leaf, rows, (float *)out + f->first[t]);
    else add_double(f->k, f->outputs, f->values.buf, leaf, rows, (double *)out + f->first[t]);
  }
  return 0;
}

static int score_rows(const forest *f, const double *x, size_t rows, char *out, void *scratch, uint32_t *leaf, int wide) {
  size_t size = f->k * (f->flags & SINGLE ? sizeof(float) : sizeof(double));
  if (rows < FEW) return score_few(f, x, rows, out, scratch, leaf);
  for (size_t start = 0; start < rows; start += BLOCK) {
    size_t count = rows - start < BLOCK ? rows - start : BLOCK;
    if (score_block(f, x + start * f->width, count, out + start * size, scratch, leaf, wide) < 0) return -1;
  }
  return 0;
}

/* -- Python -------------------------------------------------------------------------------------------------------- */

static int expect(const Py_buffer *buffer, const char *format, Py_ssize_t rows, Py_ssize_t columns, const char *what) {
  const char *given = buffer->format == NULL ? "B" : buffer->format;
  if (given[0] == '<' || given[0] == '=' || given[0] == '@') given++;
  if (buffer->ndim == 2 && buffer->shape[0] == rows && buffer->shape[1] == columns && strcmp(given, format) == 0) return 0;
  PyErr_Format(PyExc_ValueError, "%s must be a C-contiguous array [%zd, %zd] of type %s", what, rows, columns, format);
  return -1;
}

static PyObject *trees_score(PyObject *self, PyObject *args) {
  const forest *f = (const forest *)self;
  PyObject *given, *taken, *result = NULL;
  Py_buffer x, out;
  int wide = 64;
  if (!PyArg_ParseTuple(args, "OO|i", &given, &taken, &wide)) return NULL;
  wide = registers(wide);
  if (PyObject_GetBuffer(given, &x, PyBUF_ND | PyBUF_C_CONTIGUOUS | PyBUF_FORMAT) < 0) return NULL;
  if (PyObject_GetBuffer(taken, &out, PyBUF_ND | PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | PyBUF_WRITABLE) < 0) {
    PyBuffer_Release(&x);
    return NULL;
  }
  size_t rows = x.ndim == 2 ? (size_t)x.shape[0] : 0;
  size_t leaves = ((f->trees > BLOCK ? f->trees : BLOCK) * sizeof(uint32_t) + 63) / 64 * 64;
  size_t block = rows < FEW ? f->used * real_size(f) : f->used * BLOCK * real_size(f) + f->masks.wide * BLOCK;
  void *scratch = NULL;
  if (expect(&x, "d", (Py_ssize_t)rows, (Py_ssize_t)f->width, "the matrix") < 0) goto done;
  if (expect(&out, f->flags & SINGLE ? "f" : "d", (Py_ssize_t)rows, (Py_ssize_t)f->k, "the scores") < 0) goto done;
  scratch = malloc(leaves + block + 64);
  if (scratch == NULL) {
    PyErr_NoMemory();
    goto done;
  }
  uint32_t *leaf = (uint32_t *)(((uintptr_t)scratch + 63) / 64 * 64);
  char *copies = (char *)leaf + leaves;
  int status;
  if (rows * f->trees < BRIEF) {
    status = score_rows(f, x.buf, rows, out.buf, copies, leaf, wide);
  } else {
    Py_BEGIN_ALLOW_THREADS
    status = score_rows(f, x.buf, rows, out.buf, copies, leaf, wide);
    Py_END_ALLOW_THREADS
  }
  if (status < 0) PyErr_SetString(PyExc_ValueError, "a number is not finite");
  else result = Py_NewRef(Py_None);
done:
  free(scratch);
  PyBuffer_Release(&out);
  PyBuffer_Release(&x);
  return result;
}

static int take(PyObject *array, Py_buffer *buffer, size_t item, size_t *count, const char *what) {
  if (PyObject_GetBuffer(array, buffer, PyBUF_SIMPLE) < 0) return -1;
  if (item == 0 || (size_t)buffer->len % item != 0) {
    PyErr_Format(PyExc_ValueError, "%s are of another size", what);
    return -1;
  }
  *count = (size_t)buffer->len / item;
  return 0;
}

static const char *check_sizes(const forest *f, size_t kinds, size_t roots, size_t firsts, size_t values, size_t words) {
  size_t real = f->flags & SINGLE ? sizeof(float) : sizeof(double);
  if (f->count > INT32_MAX || f->used > INT32_MAX || f->width > INT32_MAX || f->k == 0 || f->k > INT32_MAX)
    return "a table is too large";
  if (kinds != 0 && kinds != f->count) return "kinds and nodes differ in number";
  if (roots != firsts + 1) return "roots and trees differ in number";
  if (f->root[0] != 0 || f->root[firsts] != (int64_t)f->count) return "the roots do not span the nodes";
  for (size_t t = 0; t < firsts; t++) {
    if (f->root[t + 1] <= f->root[t] || (size_t)f->root[t + 1] > f->count) return "the roots are not in order";
    if (f->first[t] < 0 || (size_t)f->first[t] + f->outputs > f->k) return "a tree adds to a score that is not there";
  }
  if (f->outputs == 0 || f->outputs > f->k || values % (f->outputs * real) != 0) return "values are of another size";
  for (size_t j = 0; j < f->used; j++)
    if (f->column[j] < 0 || (size_t)f->column[j] >= f->width) return "a column is out of range";
  if (f->offsets[0] != 0 || (size_t)f->offsets[f->sets] != words) return "the sets do not span their words";
  for (size_t s = 0; s < f->sets; s++)
    if (f->offsets[s + 1] < f->offsets[s]) return "the sets are not in order";
  return NULL;
}

static void sort_by_depth(forest *f) {
  size_t done = 0; /* counting by depth, a tree's own order kept; depths are few, trees are many */
  for (uint32_t depth = 0; done < f->trees;) {
    uint32_t next = UINT32_MAX;
    for (size_t t = 0; t < f->trees; t++) {
      if (f->depth[t] == depth) f->order[done++] = (uint32_t)t;
      else if (f->depth[t] > depth && f->depth[t] < next) next = f->depth[t];
    }
    depth = next;
  }
}

static const char *prepare(forest *f, size_t kinds) {
  f->has_kinds = kinds != 0;
  f->padded_kinds = calloc(kinds + 4, 1);
  if (f->padded_kinds == NULL) return "no memory is left";
  if (kinds != 0) memcpy(f->padded_kinds, f->kinds, kinds);
  uint32_t *below = malloc((f->count + 1) * sizeof *below);
  f->depth = malloc((f->trees + 1) * sizeof *f->depth);
  f->order = malloc((f->trees + 1) * sizeof *f->order);
  if (below == NULL || f->depth == NULL || f->order == NULL) {
    free(below);
    return "no memory is left";
  }
  const char *fault = f->flags & NARROW ? narrow_check(f, below) : wide_check(f, below);
  free(below);
  if (fault != NULL) return fault;
  for (size_t i = 0; i < kinds; i++) {
    f->has_sets |= f->kinds[i] & (CATEGORY | ZERO_MISSING);
    f->missing_matters |= f->kinds[i] & MISSING_RIGHT;
  }
  sort_by_depth(f);
  return NULL;
}

static const char *check_masks(const forest *f, size_t cuts, size_t starts, size_t tests, size_t planes, size_t trees,
                               size_t leaves) {
  const masks *m = &f->masks;
  if (starts != f->used + 1 || m->start[0] != 0 || (size_t)m->start[f->used] != cuts) return "cuts are damaged";
  for (size_t j = 0; j < f->used; j++) {
    int64_t count = m->start[j + 1] - m->start[j];
    if (count < 0 || count > UINT16_MAX || (count & (count + 1)) != 0) return "cuts are damaged";
  }
  if (planes == 0 || m->plane[0] != 0 || (size_t)m->plane[planes - 1] != tests) return "planes are damaged";
  for (size_t p = 0; p + 1 < planes; p++)
    if (m->plane[p + 1] < m->plane[p]) return "planes are damaged";
  if (trees != f->trees + 1 || m->tree[0] != 0 || (size_t)m->tree[f->trees] != planes - 1 || leaves != (planes - 1) * 8)
    return "planes are damaged";
  for (size_t t = 0; t < f->trees; t++)
    if (m->tree[t + 1] <= m->tree[t] || m->tree[t + 1] - m->tree[t] > 32) return "planes are damaged";
  for (size_t i = 0; i < tests; i++)
    if (m->tests[i].column >= m->wide) return "tests are damaged";
  for (size_t v = 0; v < m->wide; v++) {
    if (m->bytes[v].column < 0 || (size_t)m->bytes[v].column >= f->used) return "columns of bytes are damaged";
    if ((m->bytes[v].kind & CATEGORY) && (m->bytes[v].set < 0 || (size_t)m->bytes[v].set >= f->sets))
      return "columns of bytes are damaged";
    if (m->bytes[v].low < 0 || m->bytes[v].low > UINT16_MAX) return "columns of bytes are damaged";
  }
  for (size_t i = 0; i < leaves; i++)
    if (m->leaf[i] >= f->leaves) return "leaves are damaged";
  return NULL;
}

/* masks(cuts, starts, columns, tests, planes, trees, leaves): from now on many rows at once go this way. */
static PyObject *trees_masks(PyObject *self, PyObject *args) {
  forest *f = (forest *)self;
  masks *m = &f->masks;
  PyObject *given[7];
  size_t count[7], item[7] = {real_size(f), 8, sizeof(bytes), sizeof(test), 8, 8, 4};
  if (!PyArg_ParseTuple(args, "OOOOOOO", given, given + 1, given + 2, given + 3, given + 4, given + 5, given + 6))
    return NULL;
  if (m->held[0].obj != NULL) {
    PyErr_SetString(PyExc_ValueError, "there are masks already");
    return NULL;
  }
  for (size_t i = 0; i < 7; i++)
    if (take(given[i], m->held + i, item[i], count + i, "masks") < 0) return NULL;
  m->cuts = m->held[0].buf, m->start = m->held[1].buf, m->bytes = m->held[2].buf, m->tests = m->held[3].buf;
  m->plane = m->held[4].buf, m->tree = m->held[5].buf, m->leaf = m->held[6].buf, m->wide = count[2];
  const char *fault = check_masks(f, count[0], count[1], count[3], count[4], count[5], count[6]);
  if (fault != NULL) {
    PyErr_SetString(PyExc_ValueError, fault);
    return NULL;
  }
  size_t size = f->outputs * (f->flags & SINGLE ? sizeof(float) : sizeof(double));
  char *values = malloc(count[6] * size + 1);
  if (values == NULL) return PyErr_NoMemory();
  for (size_t i = 0; i < count[6]; i++) memcpy(values + i * size, (const char *)f->values.buf + m->leaf[i] * size, size);
  m->values = values;
  Py_RETURN_NONE;
}

/* Trees(nodes, kinds, roots, firsts, columns, values, base, offsets, words, width, outputs, flags) */
static PyObject *trees_new(PyTypeObject *type, PyObject *args, PyObject *named) {
  PyObject *given[9];
  Py_ssize_t width, outputs;
  int flags;
  if (named != NULL && PyDict_Size(named) > 0) {
    PyErr_SetString(PyExc_TypeError, "Trees takes no names");
    return NULL;
  }
  if (!PyArg_ParseTuple(args, "OOOOOOOOOnni", given, given + 1, given + 2, given + 3, given + 4, given + 5, given + 6,
                        given + 7, given + 8, &width, &outputs, &flags))
    return NULL;
  allocfunc make = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
  forest *f = (forest *)make(type, 0);
  if (f == NULL) return NULL;
  f->flags = flags, f->width = (size_t)width, f->outputs = (size_t)outputs;
  size_t kinds, roots, firsts, values, words, offsets;
  size_t real = flags & SINGLE ? sizeof(float) : sizeof(double);
  if (take(given[0], &f->nodes, flags & NARROW ? sizeof(narrow) : sizeof(wide), &f->count, "nodes") < 0 ||
      take(given[1], &f->kinds_, 1, &kinds, "kinds") < 0 ||
      take(given[2], &f->roots_, sizeof(int64_t), &roots, "roots") < 0 ||
      take(given[3], &f->firsts_, sizeof(int32_t), &firsts, "firsts") < 0 ||
      take(given[4], &f->columns_, sizeof(int32_t), &f->used, "columns") < 0 ||
      take(given[5], &f->values, 1, &values, "values") < 0 || take(given[6], &f->base, real, &f->k, "base") < 0 ||
      take(given[7], &f->offsets_, sizeof(int64_t), &offsets, "offsets") < 0 ||
      take(given[8], &f->words_, sizeof(uint32_t), &words, "words") < 0)
    goto failed;
  f->kinds = f->kinds_.buf, f->root = f->roots_.buf, f->first = f->firsts_.buf, f->column = f->columns_.buf;
  f->offsets = f->offsets_.buf, f->words = f->words_.buf;
  const char *fault = "sizes are out of range";
  if (width >= 0 && outputs > 0 && roots > 0 && offsets > 0) {
    f->trees = firsts, f->sets = offsets - 1;
    fault = check_sizes(f, kinds, roots, firsts, values, words);
  }
  if (fault == NULL) {
    f->leaves = values / (f->outputs * real);
    fault = prepare(f, kinds);
  }
  if (fault == NULL) return (PyObject *)f;
  PyErr_SetString(PyExc_ValueError, fault);
failed:
  Py_DECREF(f);
  return NULL;
}

static void trees_dealloc(PyObject *self) {
  forest *f = (forest *)self;
  PyTypeObject *type = Py_TYPE(self);
  Py_buffer *held[] = {&f->nodes, &f->kinds_, &f->roots_, &f->firsts_, &f->columns_, &f->values, &f->base, &f->offsets_,
                       &f->words_};
  for (size_t i = 0; i < sizeof held / sizeof *held; i++) PyBuffer_Release(held[i]);
  for (size_t i = 0; i < 7; i++) PyBuffer_Release(f->masks.held + i);
  free(f->masks.values);
  free(f->depth);
  free(f->order);
  free(f->padded_kinds);
  freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
  release(self);
  Py_DECREF(type);
}

static PyMethodDef methods[] = {
    {"score", trees_score, METH_VARARGS,
     "score(matrix, scores, registers=64): fills scores [rows, k] from matrix, float64 [rows, width]. registers: bytes of\n"
     "those to use at most (16, 32, 64), where the processor has them."},
    {"masks", trees_masks, METH_VARARGS, "masks(*tables): many rows at once go by masks from now on; see masks.py."},
    {NULL, NULL, 0, NULL}};

static PyType_Slot slots[] = {{Py_tp_new, trees_new},
                              {Py_tp_dealloc, trees_dealloc},
                              {Py_tp_methods, methods},
                              {Py_tp_doc, "Flat tables of nodes, checked once, walked for every row."},
                              {0, NULL}};

static PyType_Spec spec = {"bimodal.runtimes.exact.kernels.Trees", sizeof(forest), 0, Py_TPFLAGS_DEFAULT, slots};

int trees_register(PyObject *module) {
  PyObject *type = PyType_FromModuleAndSpec(module, &spec, NULL);
  if (type == NULL) return -1;
  int status = PyModule_AddType(module, (PyTypeObject *)type);
  Py_DECREF(type);
  return status;
}
