/* Columns: preparing them, and linear models on them.
 *
 * Columns(feeds, sources, steps, Dictionary) is a Prepare in C. A feed is a column of the Rows: a NumPy array or a
 * Dictionary (codes and values). A source is a feed, or one place of a vector feed, as numbers or as places among known
 * values. A step gives one or more prepared columns from one source. Rows are worked on in blocks that stay in the cache;
 * within a block, column by column. Every sum runs over the columns from left to right. */
#include "kernels.h"
#include <limits.h>
#include <math.h>
#include <string.h>

#define BLOCK 64 /* rows of a vector of 30 numbers then stay in the nearest cache */
#define KEPT 4    /* translated values arrays remembered for each source */
#define ALONE 128 /* fewer rows are done without letting go of the interpreter's lock */

enum { NUMBER, LOOKUP, ONE_HOT };
enum { FILL, SUBTRACT, DIVIDE, MULTIPLY, ADD, CLIP, MISSING, FLOAT32, SQUASH, ABOVE, ABSENT, OPS };

typedef struct {
  int code;
  double a, b;
} Op;

typedef struct {
  Py_ssize_t feed, place; /* place: -1 where the feed is a plain column */
  PyObject *lookup;       /* value -> its place among the known ones; NULL: the source is numbers */
  Py_ssize_t known;
  double *sorted; /* the known values where all are numbers, in order, and their places */
  int32_t *order;
  PyObject *values[KEPT], *translated[KEPT]; /* of Dictionaries: their values array, and bytes of int32 places */
  int next;
} Source;

typedef struct {
  int kind;
  Py_ssize_t source, width, offset, count;
  Op *ops;         /* NUMBER: count of them */
  double *table;   /* LOOKUP: [known + 2, width] */
  int32_t *places; /* ONE_HOT: [known + 2] */
} Step;

typedef struct {
  PyObject_HEAD
  PyObject *feeds; /* tuple of str */
  PyObject *dictionary;
  Source *sources;
  Step *steps;
  Py_ssize_t feed_count, source_count, step_count, width;
} Columns;

/* One call's view of a feed. */
typedef struct {
  Py_buffer view;
  PyObject *values; /* of a Dictionary; else NULL */
  char type;        /* the buffer's format */
} Feed;

/* One call's view of a source. */
typedef struct {
  PyObject *kept;            /* bytes that `table` points into */
  const int32_t *table;      /* Dictionary: place by code */
  Py_ssize_t table_count;    /* codes that it knows */
  void *ready;               /* values found beforehand: int32 places, or double numbers */
} Ready;

static PyObject *codes_name, *values_name;

/* -- reading the description ---------------------------------------------------------------------------------------- */

static void *copied(PyObject *bytes, Py_ssize_t size) {
  char *from;
  Py_ssize_t given;
  if (PyBytes_AsStringAndSize(bytes, &from, &given) < 0) return NULL;
  if (given != size) {
    PyErr_Format(PyExc_ValueError, "%zd bytes are needed, not %zd", size, given);
    return NULL;
  }
  void *made = PyMem_Malloc(size ? (size_t)size : 1);
  if (made == NULL) {
    PyErr_NoMemory();
    return NULL;
  }
  memcpy(made, from, (size_t)size);
  return made;
}

/* (feed, place, lookup | None, sorted bytes | None, order bytes | None) */
static int read_source(Columns *self, Source *source, PyObject *told) {
  PyObject *lookup, *sorted, *order;
  if (!PyArg_ParseTuple(told, "nnOOO", &source->feed, &source->place, &lookup, &sorted, &order)) return -1;
  if (source->feed < 0 || source->feed >= self->feed_count || source->place < -1) {
    PyErr_SetString(PyExc_ValueError, "a source of no feed");
    return -1;
  }
  if (lookup == Py_None) return 0;
  if (!PyDict_Check(lookup)) {
    PyErr_SetString(PyExc_TypeError, "a lookup is a dict");
    return -1;
  }
  source->lookup = Py_NewRef(lookup);
  source->known = PyDict_Size(lookup);
  if (source->known > INT32_MAX - 2) {
    PyErr_SetString(PyExc_ValueError, "too many values");
    return -1;
  }
  PyObject *key, *value;
  Py_ssize_t at = 0;
  while (PyDict_Next(lookup, &at, &key, &value)) {
    Py_ssize_t place = PyLong_AsSsize_t(value);
    if (place == -1 && PyErr_Occurred()) return -1;
    if (place < 0 || place >= source->known) {
      PyErr_SetString(PyExc_ValueError, "a value's place is outside");
      return -1;
    }
  }
  if (sorted == Py_None) return 0;
  source->sorted = copied(sorted, source->known * (Py_ssize_t)sizeof(double));
  if (source->sorted == NULL) return -1;
  source->order = copied(order, source->known * (Py_ssize_t)sizeof(int32_t));
  if (source->order == NULL) return -1;
  for (Py_ssize_t i = 0; i < source->known; i++)
    if (source->order[i] < 0 || source->order[i] >= source->known) {
      PyErr_SetString(PyExc_ValueError, "a value's place is outside");
      return -1;
    }
  return 0;
}

static int read_ops(Step *step, PyObject *ops) {
  step->count = PyTuple_Size(ops);
  if (step->count < 0) return -1;
  step->ops = PyMem_Calloc(step->count ? (size_t)step->count : 1, sizeof(Op));
  if (step->ops == NULL) {
    PyErr_NoMemory();
    return -1;
  }
  for (Py_ssize_t i = 0; i < step->count; i++) {
    Op *op = &step->ops[i];
    if (!PyArg_ParseTuple(PyTuple_GetItem(ops, i), "idd", &op->code, &op->a, &op->b)) return -1;
    if (op->code < 0 || op->code >= OPS) {
      PyErr_SetString(PyExc_ValueError, "an operation of no name");
      return -1;
    }
  }
  return 0;
}

/* (kind, source, width, ops | table | places) */
static int read_step(Columns *self, Step *step, PyObject *told) {
  PyObject *what;
  if (!PyArg_ParseTuple(told, "innO", &step->kind, &step->source, &step->width, &what)) return -1;
  if (step->source < 0 || step->source >= self->source_count || step->width < 0 || step->width > INT32_MAX ||
      (step->kind == NUMBER && step->width != 1)) {
    PyErr_SetString(PyExc_ValueError, "a step of no source");
    return -1;
  }
  Source *source = &self->sources[step->source];
  if ((step->kind == NUMBER) != (source->lookup == NULL) || step->kind < NUMBER || step->kind > ONE_HOT) {
    PyErr_SetString(PyExc_ValueError, "a step and its source do not fit");
    return -1;
  }
  step->offset = self->width;
  self->width += step->width;
  if (step->kind == NUMBER) return read_ops(step, what);
  Py_ssize_t rows = source->known + 2;
  if (step->kind == LOOKUP) {
    if (step->width && rows > PY_SSIZE_T_MAX / (Py_ssize_t)sizeof(double) / step->width) {
      PyErr_SetString(PyExc_ValueError, "too large a table");
      return -1;
    }
    step->table = copied(what, rows * step->width * (Py_ssize_t)sizeof(double));
    return step->table == NULL ? -1 : 0;
  }
  step->places = copied(what, rows * (Py_ssize_t)sizeof(int32_t));
  if (step->places == NULL) return -1;
  for (Py_ssize_t i = 0; i < rows; i++)
    if (step->places[i] < -1 || step->places[i] >= step->width) {
      PyErr_SetString(PyExc_ValueError, "a place outside its columns");
      return -1;
    }
  return 0;
}

static void columns_dealloc(Columns *self) {
  PyTypeObject *type = Py_TYPE((PyObject *)self);
  for (Py_ssize_t i = 0; self->sources && i < self->source_count; i++) {
    Source *source = &self->sources[i];
    Py_XDECREF(source->lookup);
    PyMem_Free(source->sorted);
    PyMem_Free(source->order);
    for (int k = 0; k < KEPT; k++) {
      Py_XDECREF(source->values[k]);
      Py_XDECREF(source->translated[k]);
    }
  }
  for (Py_ssize_t i = 0; self->steps && i < self->step_count; i++) {
    PyMem_Free(self->steps[i].ops);
    PyMem_Free(self->steps[i].table);
    PyMem_Free(self->steps[i].places);
  }
  PyMem_Free(self->sources);
  PyMem_Free(self->steps);
  Py_XDECREF(self->feeds);
  Py_XDECREF(self->dictionary);
  freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
  release(self);
  Py_DECREF(type);
}

static int columns_read(Columns *self, PyObject *sources, PyObject *steps) {
  self->feed_count = PyTuple_Size(self->feeds);
  Py_ssize_t source_count = PyTuple_Size(sources), step_count = PyTuple_Size(steps);
  self->sources = PyMem_Calloc(source_count ? (size_t)source_count : 1, sizeof(Source));
  self->steps = PyMem_Calloc(step_count ? (size_t)step_count : 1, sizeof(Step));
  if (self->sources == NULL || self->steps == NULL) {
    PyErr_NoMemory();
    return -1;
  }
  self->source_count = source_count;
  self->step_count = step_count;
  for (Py_ssize_t i = 0; i < source_count; i++)
    if (read_source(self, &self->sources[i], PyTuple_GetItem(sources, i)) < 0) return -1;
  for (Py_ssize_t i = 0; i < step_count; i++)
    if (read_step(self, &self->steps[i], PyTuple_GetItem(steps, i)) < 0) return -1;
  return 0;
}

static PyObject *columns_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
  PyObject *feeds, *sources, *steps, *dictionary;
  if (kwargs != NULL && PyDict_Size(kwargs)) {
    PyErr_SetString(PyExc_TypeError, "Columns takes no keyword arguments");
    return NULL;
  }
  if (!PyArg_ParseTuple(args, "O!O!O!O!", &PyTuple_Type, &feeds, &PyTuple_Type, &sources, &PyTuple_Type, &steps,
                        &PyType_Type, &dictionary))
    return NULL;
  allocfunc make = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
  Columns *self = (Columns *)make(type, 0);
  if (self == NULL) return NULL;
  self->feeds = Py_NewRef(feeds);
  self->dictionary = Py_NewRef(dictionary);
  if (columns_read(self, sources, steps) < 0) {
    Py_DECREF(self);
    return NULL;
  }
  return (PyObject *)self;
}

/* -- a call's view of its rows -------------------------------------------------------------------------------------- */

static char format_of(const Py_buffer *view) {
  const char *format = view->format ? view->format : "B";
  if (*format == '@' || *format == '=' || *format == '<') format++; /* NumPy writes '<' on no little-endian machine */
  return format[0] && !format[1] ? format[0] : 0;
}

static Py_ssize_t size_of(char type) {
  switch (type) {
    case 'd': case 'q': case 'Q': return 8;
    case 'l': case 'L': return (Py_ssize_t)sizeof(long);
    case 'O': return (Py_ssize_t)sizeof(PyObject *);
    case 'f': case 'i': case 'I': return 4;
    case 'h': case 'H': return 2;
    case 'b': case 'B': case '?': return 1;
    default: return 0;
  }
}

static int look(Columns *self, PyObject *columns, Py_ssize_t at, Py_ssize_t count, Feed *feed) {
  PyObject *name = PyTuple_GetItem(self->feeds, at);
  PyObject *column = PyDict_GetItemWithError(columns, name);
  if (column == NULL) {
    if (!PyErr_Occurred()) PyErr_SetObject(PyExc_KeyError, name);
    return -1;
  }
  PyObject *codes = NULL;
  if ((PyObject *)Py_TYPE(column) == self->dictionary) {
    codes = PyObject_GetAttr(column, codes_name);
    if (codes == NULL) return -1;
    feed->values = PyObject_GetAttr(column, values_name);
    if (feed->values == NULL) {
      Py_DECREF(codes);
      return -1;
    }
    column = codes;
  }
  int got = PyObject_GetBuffer(column, &feed->view, PyBUF_STRIDES | PyBUF_FORMAT);
  Py_XDECREF(codes);
  if (got < 0) {
    feed->view.obj = NULL;
    return -1;
  }
  feed->type = format_of(&feed->view);
  int fits = feed->view.ndim >= 1 && feed->view.ndim <= 2 && feed->view.shape[0] == count && size_of(feed->type) &&
             feed->view.itemsize == size_of(feed->type);
  if (!fits || (feed->values && (feed->type != 'i' || feed->view.ndim != 1))) {
    PyErr_Format(PyExc_TypeError, "the column %R cannot be taken", name);
    return -1;
  }
  return 0;
}

static int fits(const Source *source, const Feed *feed) {
  if (source->place < 0 ? feed->view.ndim == 1 : (feed->view.ndim == 2 && source->place < feed->view.shape[1])) return 1;
  PyErr_SetString(PyExc_TypeError, "a column of another shape than the model's");
  return 0;
}

static inline const char *start_of(const Source *source, const Feed *feed) {
  const char *from = feed->view.buf;
  return source->place < 0 ? from : from + source->place * feed->view.strides[1];
}

static inline double number_at(const char *from, char type) {
  switch (type) {
    case 'd': { double v; memcpy(&v, from, 8); return v; }
    case 'f': { float v; memcpy(&v, from, 4); return v; }
    case 'l': { long v; memcpy(&v, from, sizeof v); return (double)v; }
    case 'L': { unsigned long v; memcpy(&v, from, sizeof v); return (double)v; }
    case 'q': { int64_t v; memcpy(&v, from, 8); return (double)v; }
    case 'Q': { uint64_t v; memcpy(&v, from, 8); return (double)v; }
    case 'i': { int32_t v; memcpy(&v, from, 4); return v; }
    case 'I': { uint32_t v; memcpy(&v, from, 4); return v; }
    case 'h': { int16_t v; memcpy(&v, from, 2); return v; }
    case 'H': { uint16_t v; memcpy(&v, from, 2); return v; }
    case 'b': return *(const int8_t *)from;
    case '?': return *(const uint8_t *)from != 0;
    default: return *(const uint8_t *)from;
  }
}

/* The place of a number among the sorted known values. */
static inline int32_t search(const Source *source, double value) {
  if (value != value) return (int32_t)source->known + 1;
  Py_ssize_t low = 0, high = source->known;
  while (low < high) {
    Py_ssize_t middle = (low + high) / 2;
    if (source->sorted[middle] < value) low = middle + 1;
    else high = middle;
  }
  return low < source->known && source->sorted[low] == value ? source->order[low] : (int32_t)source->known;
}

/* The place of a Python value; -1 with an error set. */
static Py_ssize_t place_of(const Source *source, PyObject *value) {
  if (value == NULL || value == Py_None) return source->known + 1;
  PyObject *place = PyDict_GetItemWithError(source->lookup, value);
  if (place != NULL) return PyLong_AsSsize_t(place);
  if (PyErr_Occurred()) return -1;
  if (PyFloat_Check(value)) {
    double number = PyFloat_AsDouble(value);
    if (number != number) return source->known + 1;
  }
  return source->known;
}

/* bytes: the place of each of a Dictionary's values. */
static PyObject *translate(const Source *source, PyObject *values) {
  Py_ssize_t count = PySequence_Size(values);
  if (count < 0) return NULL;
  PyObject *bytes = PyBytes_FromStringAndSize(NULL, count * (Py_ssize_t)sizeof(int32_t));
  if (bytes == NULL) return NULL;
  int32_t *table = (int32_t *)PyBytes_AsString(bytes);
  for (Py_ssize_t i = 0; i < count; i++) {
    PyObject *value = PySequence_GetItem(values, i);
    Py_ssize_t place = value == NULL ? -1 : place_of(source, value);
    Py_XDECREF(value);
    if (place < 0) {
      Py_DECREF(bytes);
      return NULL;
    }
    table[i] = (int32_t)place;
  }
  return bytes;
}

static int ready_dictionary(Source *source, const Feed *feed, Ready *ready) {
  for (int k = 0; k < KEPT && ready->kept == NULL; k++)
    if (source->values[k] == feed->values) ready->kept = Py_NewRef(source->translated[k]);
  if (ready->kept == NULL) {
    ready->kept = translate(source, feed->values);
    if (ready->kept == NULL) return -1;
    int k = source->next;
    source->next = (k + 1) % KEPT;
    PyObject *values = source->values[k], *translated = source->translated[k];
    source->values[k] = Py_NewRef(feed->values);
    source->translated[k] = Py_NewRef(ready->kept);
    Py_XDECREF(values);
    Py_XDECREF(translated);
  }
  ready->table = (const int32_t *)PyBytes_AsString(ready->kept);
  ready->table_count = PyBytes_Size(ready->kept) / (Py_ssize_t)sizeof(int32_t);
  return 0;
}

static PyObject *boxed(const char *from, char type) {
  if (type == 'O') {
    PyObject *value = *(PyObject *const *)from;
    return Py_NewRef(value ? value : Py_None);
  }
  if (type == 'q') { int64_t v; memcpy(&v, from, 8); return PyLong_FromLongLong(v); }
  if (type == 'l') { long v; memcpy(&v, from, sizeof v); return PyLong_FromLong(v); }
  return PyFloat_FromDouble(number_at(from, type));
}

/* Values that need the interpreter, found before it is let go: objects, and numbers among values of several types. */
static int ready_objects(const Source *source, const Feed *feed, Py_ssize_t count, Ready *ready) {
  size_t size = source->lookup ? sizeof(int32_t) : sizeof(double);
  ready->ready = PyMem_Malloc(count ? (size_t)count * size : 1);
  if (ready->ready == NULL) {
    PyErr_NoMemory();
    return -1;
  }
  const char *from = start_of(source, feed);
  for (Py_ssize_t i = 0; i < count; i++, from += feed->view.strides[0]) {
    PyObject *value = boxed(from, feed->type);
    if (value == NULL) return -1;
    if (source->lookup) {
      Py_ssize_t place = place_of(source, value);
      ((int32_t *)ready->ready)[i] = (int32_t)place;
      Py_DECREF(value);
      if (place < 0) return -1;
    } else {
      double number = value == Py_None ? NAN : PyFloat_AsDouble(value);
      ((double *)ready->ready)[i] = number;
      Py_DECREF(value);
      if (number == -1.0 && PyErr_Occurred()) return -1;
    }
  }
  return 0;
}

static int prepare_source(Source *source, const Feed *feed, Py_ssize_t count, Ready *ready) {
  if (!fits(source, feed)) return -1;
  if (feed->values) {
    if (source->lookup) return ready_dictionary(source, feed, ready);
    if (PySequence_Size(feed->values) == 0) return 0; /* all null: numbers that are all missing */
    PyErr_SetString(PyExc_TypeError, "text where numbers are needed");
    return -1;
  }
  if (feed->type == 'O' || (source->lookup && source->sorted == NULL)) return ready_objects(source, feed, count, ready);
  return 0;
}

/* -- a block of rows ------------------------------------------------------------------------------------------------ */

static void load_numbers(const Source *source, const Feed *feed, const Ready *ready, Py_ssize_t start, Py_ssize_t count,
                         double *out) {
  if (ready->ready) {
    memcpy(out, (double *)ready->ready + start, (size_t)count * sizeof(double));
    return;
  }
  if (feed->values) {
    for (Py_ssize_t i = 0; i < count; i++) out[i] = NAN;
    return;
  }
  Py_ssize_t stride = feed->view.strides[0];
  const char *from = start_of(source, feed) + start * stride;
  if (feed->type == 'd' && stride == 8) memcpy(out, from, (size_t)count * 8);
  else if (feed->type == 'd')
    for (Py_ssize_t i = 0; i < count; i++) memcpy(&out[i], from + i * stride, 8);
  else
    for (Py_ssize_t i = 0; i < count; i++) out[i] = number_at(from + i * stride, feed->type);
}

static void load_places(const Source *source, const Feed *feed, const Ready *ready, Py_ssize_t start, Py_ssize_t count,
                        int32_t *out) {
  int32_t null = (int32_t)source->known + 1, other = (int32_t)source->known;
  if (ready->ready) {
    memcpy(out, (int32_t *)ready->ready + start, (size_t)count * sizeof(int32_t));
    return;
  }
  Py_ssize_t stride = feed->view.strides[0];
  const char *from = start_of(source, feed) + start * stride;
  if (feed->values) {
    for (Py_ssize_t i = 0; i < count; i++) {
      int32_t code;
      memcpy(&code, from + i * stride, 4);
      out[i] = code < 0 ? null : code < ready->table_count ? ready->table[code] : other;
    }
    return;
  }
  for (Py_ssize_t i = 0; i < count; i++) out[i] = search(source, number_at(from + i * stride, feed->type));
}

static void apply(const Op *op, double *v, Py_ssize_t count) {
  const double a = op->a, b = op->b;
  Py_ssize_t i;
  switch (op->code) {
    case FILL: for (i = 0; i < count; i++) v[i] = v[i] != v[i] ? a : v[i]; break;
    case SUBTRACT: for (i = 0; i < count; i++) v[i] -= a; break;
    case DIVIDE: for (i = 0; i < count; i++) v[i] /= a; break;
    case MULTIPLY: for (i = 0; i < count; i++) v[i] *= a; break;
    case ADD: for (i = 0; i < count; i++) v[i] += a; break;
    case CLIP:
      for (i = 0; i < count; i++) {
        double x = v[i];
        x = x < a ? a : x;
        v[i] = x > b ? b : x;
      }
      break;
    case MISSING: for (i = 0; i < count; i++) v[i] = v[i] != v[i] ? 1.0 : 0.0; break;
    case FLOAT32: for (i = 0; i < count; i++) v[i] = (double)(float)v[i]; break;
    case SQUASH: for (i = 0; i < count; i++) v[i] = fabs(v[i]) <= a ? 0.0 : v[i]; break;
    case ABOVE: for (i = 0; i < count; i++) v[i] = v[i] > a ? 1.0 : v[i] != v[i] ? v[i] : 0.0; break;
    case ABSENT: for (i = 0; i < count; i++) v[i] = v[i] == 0.0 ? NAN : v[i]; break;
  }
}

typedef struct {
  const Columns *columns;
  const Feed *feeds;
  const Ready *ready;
  double *out;              /* [rows, width], or with weights [rows, k] */
  const double *weights;    /* [k, width]; NULL: the columns themselves are wanted */
  const double *intercept;  /* [k] */
  Py_ssize_t k;
  double *sums;    /* [k, BLOCK] */
  double *strange; /* 0 as long as every sum is a finite number */
} Job;

static void write_step(const Job *job, const Step *step, Py_ssize_t start, Py_ssize_t count, const double *numbers,
                       const int32_t *places) {
  Py_ssize_t width = job->columns->width;
  double *to = job->out + start * width + step->offset;
  if (step->kind == NUMBER)
    for (Py_ssize_t i = 0; i < count; i++) to[i * width] = numbers[i];
  else if (step->kind == LOOKUP)
    for (Py_ssize_t i = 0; i < count; i++)
      memcpy(to + i * width, step->table + places[i] * step->width, (size_t)step->width * sizeof(double));
  else
    for (Py_ssize_t i = 0; i < count; i++) {
      int32_t place = step->places[places[i]];
      memset(to + i * width, 0, (size_t)step->width * sizeof(double));
      if (place >= 0) to[i * width + place] = 1.0;
    }
}

static void add_step(const Job *job, const Step *step, Py_ssize_t count, const double *numbers, const int32_t *places) {
  for (Py_ssize_t o = 0; o < job->k; o++) {
    const double *weights = job->weights + o * job->columns->width + step->offset;
    double *sums = job->sums + o * BLOCK;
    if (step->kind == NUMBER) {
      const double weight = weights[0];
      for (Py_ssize_t i = 0; i < count; i++) sums[i] += numbers[i] * weight;
    } else if (step->kind == LOOKUP)
      for (Py_ssize_t i = 0; i < count; i++) {
        const double *values = step->table + places[i] * step->width;
        double sum = sums[i];
        for (Py_ssize_t j = 0; j < step->width; j++) sum += values[j] * weights[j];
        sums[i] = sum;
      }
    else
      for (Py_ssize_t i = 0; i < count; i++) {
        int32_t place = step->places[places[i]];
        if (place >= 0) sums[i] += weights[place];
      }
  }
}

static void work_block(const Job *job, Py_ssize_t start, Py_ssize_t count) {
  double numbers[BLOCK];
  int32_t places[BLOCK];
  const Columns *columns = job->columns;
  if (job->weights)
    for (Py_ssize_t o = 0; o < job->k; o++) memset(job->sums + o * BLOCK, 0, (size_t)count * sizeof(double));
  for (Py_ssize_t s = 0; s < columns->step_count; s++) {
    const Step *step = &columns->steps[s];
    const Source *source = &columns->sources[step->source];
    const Feed *feed = &job->feeds[source->feed];
    const Ready *ready = &job->ready[step->source];
    if (step->kind == NUMBER) {
      load_numbers(source, feed, ready, start, count, numbers);
      for (Py_ssize_t o = 0; o < step->count; o++) apply(&step->ops[o], numbers, count);
    } else
      load_places(source, feed, ready, start, count, places);
    if (job->weights) add_step(job, step, count, numbers, places);
    else write_step(job, step, start, count, numbers, places);
  }
  if (job->weights)
    for (Py_ssize_t o = 0; o < job->k; o++)
      for (Py_ssize_t i = 0; i < count; i++) {
        double sum = job->sums[o * BLOCK + i] + job->intercept[o];
        *job->strange += sum - sum;
        job->out[(start + i) * job->k + o] = sum;
      }
}

static void work(const Job *job, Py_ssize_t rows) {
  for (Py_ssize_t start = 0; start < rows; start += BLOCK)
    work_block(job, start, rows - start < BLOCK ? rows - start : BLOCK);
}

/* -- calls ---------------------------------------------------------------------------------------------------------- */

#define FEW 32 /* feeds and sources of most models: their views need no memory of their own */

static int run(Columns *self, PyObject *columns, Py_ssize_t rows, Job *job) {
  Feed few_feeds[FEW], *feeds = few_feeds;
  Ready few_ready[FEW], *ready = few_ready;
  int failed = -1;
  if (!PyDict_Check(columns)) {
    PyErr_SetString(PyExc_TypeError, "columns are needed as a dict");
    return -1;
  }
  if (self->feed_count > FEW) feeds = PyMem_Malloc((size_t)self->feed_count * sizeof(Feed));
  if (self->source_count > FEW) ready = PyMem_Malloc((size_t)self->source_count * sizeof(Ready));
  if (feeds == NULL || ready == NULL) {
    PyErr_NoMemory();
    goto free;
  }
  for (Py_ssize_t i = 0; i < self->feed_count; i++) {
    feeds[i].view.obj = NULL;
    feeds[i].values = NULL;
  }
  memset(ready, 0, (size_t)self->source_count * sizeof(Ready));
  for (Py_ssize_t i = 0; i < self->feed_count; i++)
    if (look(self, columns, i, rows, &feeds[i]) < 0) goto release;
  for (Py_ssize_t i = 0; i < self->source_count; i++)
    if (prepare_source(&self->sources[i], &feeds[self->sources[i].feed], rows, &ready[i]) < 0) goto release;
  job->columns = self;
  job->feeds = feeds;
  job->ready = ready;
  if (rows < ALONE) work(job, rows);
  else {
    Py_BEGIN_ALLOW_THREADS work(job, rows);
    Py_END_ALLOW_THREADS
  }
  failed = 0;
release:
  for (Py_ssize_t i = 0; i < self->source_count; i++) {
    Py_XDECREF(ready[i].kept);
    PyMem_Free(ready[i].ready);
  }
  for (Py_ssize_t i = 0; i < self->feed_count; i++) {
    if (feeds[i].view.obj) PyBuffer_Release(&feeds[i].view);
    Py_XDECREF(feeds[i].values);
  }
free:
  if (feeds != few_feeds) PyMem_Free(feeds);
  if (ready != few_ready) PyMem_Free(ready);
  return failed;
}

/* A C-contiguous float64 buffer of `size` numbers (-1: any). */
static int doubles(PyObject *object, Py_buffer *view, Py_ssize_t size, int writable) {
  if (PyObject_GetBuffer(object, view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | (writable ? PyBUF_WRITABLE : 0)) < 0) {
    view->obj = NULL;
    return -1;
  }
  if (format_of(view) == 'd' && view->itemsize == 8 && (size < 0 || view->len == size * 8)) return 0;
  PyErr_SetString(PyExc_ValueError, "float64 numbers of another count are needed");
  PyBuffer_Release(view);
  view->obj = NULL;
  return -1;
}

static Py_ssize_t first_axis(const Py_buffer *view) { return view->ndim > 0 ? view->shape[0] : 0; }

/* matrix(columns, out): the prepared columns into out, float64 [rows, width]. */
static PyObject *columns_matrix(Columns *self, PyObject *const *args, Py_ssize_t count) {
  Py_buffer out;
  if (count != 2) {
    PyErr_SetString(PyExc_TypeError, "matrix(columns, out)");
    return NULL;
  }
  if (doubles(args[1], &out, -1, 1) < 0) return NULL;
  Py_ssize_t rows = first_axis(&out);
  int failed = -1;
  if (out.ndim != 2 || out.shape[1] != self->width) PyErr_SetString(PyExc_ValueError, "out has another width");
  else {
    Job job = {.out = out.buf};
    failed = run(self, args[0], rows, &job);
  }
  PyBuffer_Release(&out);
  if (failed) return NULL;
  return Py_NewRef(Py_None);
}

/* sums(columns, weights, intercept, out): out [rows, k] = prepared columns x weights [k, width], plus intercept [k].
 * True where every sum is a finite number. */
static PyObject *columns_sums(Columns *self, PyObject *const *args, Py_ssize_t count) {
  Py_buffer out, weights = {0}, intercept = {0};
  double few[4 * BLOCK], *sums = few, strange = 0.0;
  int failed = -1;
  if (count != 4) {
    PyErr_SetString(PyExc_TypeError, "sums(columns, weights, intercept, out)");
    return NULL;
  }
  if (doubles(args[3], &out, -1, 1) < 0) return NULL;
  Py_ssize_t rows = first_axis(&out), k = out.ndim == 2 ? out.shape[1] : -1;
  if (k < 1 || k > PY_SSIZE_T_MAX / 8 / BLOCK || (self->width && k > PY_SSIZE_T_MAX / 8 / self->width)) {
    PyErr_SetString(PyExc_ValueError, "out is [rows, k]");
    goto done;
  }
  if (doubles(args[1], &weights, k * self->width, 0) < 0 || doubles(args[2], &intercept, k, 0) < 0) goto done;
  if (k > 4) sums = PyMem_Malloc((size_t)k * BLOCK * sizeof(double));
  if (sums == NULL) {
    PyErr_NoMemory();
    goto done;
  }
  Job job = {.out = out.buf, .weights = weights.buf, .intercept = intercept.buf, .k = k, .sums = sums,
             .strange = &strange};
  failed = run(self, args[0], rows, &job);
done:
  if (sums != few) PyMem_Free(sums);
  if (weights.obj) PyBuffer_Release(&weights);
  if (intercept.obj) PyBuffer_Release(&intercept);
  PyBuffer_Release(&out);
  if (failed) return NULL;
  return PyBool_FromLong(strange == 0.0);
}

static PyMethodDef columns_methods[] = {
    {"matrix", (PyCFunction)(void (*)(void))columns_matrix, METH_FASTCALL,
     "matrix(columns, out): the prepared columns of a dict of columns into out, float64 [rows, width]."},
    {"sums", (PyCFunction)(void (*)(void))columns_sums, METH_FASTCALL,
     "sums(columns, weights, intercept, out): weighted sums from left to right into out, float64 [rows, k]."},
    {NULL, NULL, 0, NULL}};

static PyType_Slot columns_slots[] = {
    {Py_tp_new, columns_new},
    {Py_tp_dealloc, columns_dealloc},
    {Py_tp_methods, columns_methods},
    {Py_tp_doc, "Columns(feeds, sources, steps, Dictionary): how prepared columns come from columns of the Rows."},
    {0, NULL}};

static PyType_Spec columns_spec = {"bimodal.runtimes.exact.kernels.Columns", sizeof(Columns), 0, Py_TPFLAGS_DEFAULT,
                                   columns_slots};

/* -- links ---------------------------------------------------------------------------------------------------------- */

static inline double expit_of(double x) { return 1.0 / (1.0 + exp(-x)); }

/* expit(raw, out): of every number. logistic(raw, out): [rows] or [rows, 1] into [rows, 2]. */
static PyObject *linked(PyObject *const *args, Py_ssize_t count, int pairs) {
  Py_buffer raw, out;
  if (count != 2) {
    PyErr_SetString(PyExc_TypeError, "raw and out are needed");
    return NULL;
  }
  if (doubles(args[0], &raw, -1, 0) < 0) return NULL;
  Py_ssize_t n = raw.len / 8;
  if (doubles(args[1], &out, pairs ? 2 * n : n, 1) < 0) {
    PyBuffer_Release(&raw);
    return NULL;
  }
  const double *from = raw.buf;
  double *to = out.buf;
  PyThreadState *state = n < ALONE ? NULL : PyEval_SaveThread();
  if (pairs)
    for (Py_ssize_t i = 0; i < n; i++) {
      double p = expit_of(from[i]);
      to[2 * i] = 1.0 - p;
      to[2 * i + 1] = p;
    }
  else
    for (Py_ssize_t i = 0; i < n; i++) to[i] = expit_of(from[i]);
  if (state) PyEval_RestoreThread(state);
  PyBuffer_Release(&raw);
  PyBuffer_Release(&out);
  return Py_NewRef(Py_None);
}

static PyObject *link_expit(PyObject *module, PyObject *const *args, Py_ssize_t count) {
  (void)module;
  return linked(args, count, 0);
}

static PyObject *link_logistic(PyObject *module, PyObject *const *args, Py_ssize_t count) {
  (void)module;
  return linked(args, count, 1);
}

static PyMethodDef functions[] = {
    {"expit", (PyCFunction)(void (*)(void))link_expit, METH_FASTCALL, "expit(raw, out): 1 / (1 + exp(-raw))."},
    {"logistic", (PyCFunction)(void (*)(void))link_logistic, METH_FASTCALL,
     "logistic(raw, out): raw [rows, 1] into out [rows, 2]: 1 - expit(raw), expit(raw)."},
    {NULL, NULL, 0, NULL}};

int columns_register(PyObject *module) {
  codes_name = PyUnicode_InternFromString("codes");
  values_name = PyUnicode_InternFromString("values");
  if (codes_name == NULL || values_name == NULL) return -1;
  PyObject *type = PyType_FromModuleAndSpec(module, &columns_spec, NULL);
  if (type == NULL) return -1;
  int added = PyModule_AddObjectRef(module, "Columns", type);
  Py_DECREF(type);
  return added < 0 ? -1 : PyModule_AddFunctions(module, functions);
}
