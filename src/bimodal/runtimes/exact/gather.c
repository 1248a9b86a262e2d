/* Gather: decoded rows (msgspec Structs with attributes f0, f1, …) straight to columns.
 *
 * Gather(fields, empty, Dictionary)(rows) gives a list of columns, or None where a value needs the full verdict of
 * Signature.check: it never judges. The rule is that of field.plainly_good.
 *
 * vectors(parts, empty, width, ordinary) does the same for lists of rows that are lists of numbers: float64 [rows, width],
 * or None. */
#include "kernels.h"
#include <math.h>

#define EXACT 9007199254740992.0 /* 2**53: a float64 holds every smaller integer */

enum { FLOAT, INTEGER, BOOLEAN, TEXT, KINDS };

typedef struct {
  PyObject *name;
  int kind, nullable, closed;
  PyObject *known, *values; /* TEXT: text -> code, and the array of the texts by code; NULL: none is known */
  Py_ssize_t place;         /* among the fields of its kind */
} GatherField;

typedef struct {
  PyObject_HEAD
  PyObject *empty, *dictionary, *dtypes[KINDS], *objects;
  GatherField *fields;
  Py_ssize_t count, kinds[KINDS];
} Gather;

static const Py_ssize_t SIZES[KINDS] = {8, 8, 1, 4};

static void gather_dealloc(Gather *self) {
  PyTypeObject *type = Py_TYPE((PyObject *)self);
  for (Py_ssize_t i = 0; i < self->count; i++) {
    Py_XDECREF(self->fields[i].name);
    Py_XDECREF(self->fields[i].known);
    Py_XDECREF(self->fields[i].values);
  }
  PyMem_Free(self->fields);
  for (int k = 0; k < KINDS; k++) Py_XDECREF(self->dtypes[k]);
  Py_XDECREF(self->objects);
  Py_XDECREF(self->empty);
  Py_XDECREF(self->dictionary);
  freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
  release(self);
  Py_DECREF(type);
}

/* (attribute, kind, nullable, closed, known | None, values | None) */
static int gather_field(Gather *self, GatherField *field, PyObject *told) {
  PyObject *name, *known, *values;
  if (!PyArg_ParseTuple(told, "UippOO", &name, &field->kind, &field->nullable, &field->closed, &known, &values))
    return -1;
  if (field->kind < 0 || field->kind >= KINDS || (known != Py_None && !PyDict_Check(known))) {
    PyErr_SetString(PyExc_ValueError, "a field of no kind");
    return -1;
  }
  field->name = Py_NewRef(name);
  PyUnicode_InternInPlace(&field->name);
  if (known != Py_None) {
    field->known = Py_NewRef(known);
    field->values = Py_NewRef(values);
  }
  field->place = field->kind == TEXT && field->known == NULL ? 0 : self->kinds[field->kind]++;
  return 0;
}

/* Gather(fields, empty, (float64, int64, bool, int32), object, Dictionary) */
static PyObject *gather_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
  PyObject *fields, *empty, *dtypes, *objects, *dictionary;
  if (kwargs != NULL && PyDict_Size(kwargs)) {
    PyErr_SetString(PyExc_TypeError, "Gather takes no keyword arguments");
    return NULL;
  }
  if (!PyArg_ParseTuple(args, "O!OO!OO", &PyTuple_Type, &fields, &empty, &PyTuple_Type, &dtypes, &objects, &dictionary))
    return NULL;
  if (PyTuple_Size(dtypes) != KINDS) {
    PyErr_SetString(PyExc_ValueError, "one type for each kind is needed");
    return NULL;
  }
  allocfunc make = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
  Gather *self = (Gather *)make(type, 0);
  if (self == NULL) return NULL;
  self->empty = Py_NewRef(empty);
  self->objects = Py_NewRef(objects);
  self->dictionary = Py_NewRef(dictionary);
  for (int k = 0; k < KINDS; k++) self->dtypes[k] = Py_NewRef(PyTuple_GetItem(dtypes, k));
  Py_ssize_t count = PyTuple_Size(fields);
  self->fields = PyMem_Calloc(count ? (size_t)count : 1, sizeof(GatherField));
  if (self->fields == NULL) {
    Py_DECREF(self);
    return PyErr_NoMemory();
  }
  self->count = count;
  for (Py_ssize_t i = 0; i < count; i++)
    if (gather_field(self, &self->fields[i], PyTuple_GetItem(fields, i)) < 0) {
      Py_DECREF(self);
      return NULL;
    }
  return (PyObject *)self;
}

/* Each of these: 1 stored, 0 the full verdict is needed, -1 an error is set. */

static int store_float(const GatherField *field, PyObject *value, double *to) {
  if (value == Py_None) {
    *to = NAN;
    return field->nullable;
  }
  double number;
  if (PyFloat_CheckExact(value)) number = PyFloat_AsDouble(value);
  else if (PyLong_CheckExact(value)) {
    int overflow;
    long long whole = PyLong_AsLongLongAndOverflow(value, &overflow);
    if (overflow) return 0;
    number = (double)whole;
  } else return 0;
  *to = number;
  return fabs(number) < EXACT || (number != number && field->nullable);
}

static int store_integer(PyObject *value, int64_t *to) {
  int overflow;
  if (!PyLong_CheckExact(value)) return 0;
  *to = PyLong_AsLongLongAndOverflow(value, &overflow);
  return !overflow;
}

static int store_boolean(PyObject *value, char *to) {
  *to = value == Py_True;
  return value == Py_True || value == Py_False;
}

/* 2: a text that is not known. */
static int store_text(const GatherField *field, PyObject *value, int32_t *to) {
  if (value == Py_None) {
    *to = -1;
    return field->nullable;
  }
  if (!PyUnicode_CheckExact(value)) return 0;
  PyObject *code = PyDict_GetItemWithError(field->known, value);
  if (code == NULL) return PyErr_Occurred() ? -1 : field->closed ? 0 : 2;
  *to = (int32_t)PyLong_AsLong(code);
  return 1;
}

/* The list may have changed: making a Dictionary runs Python code, and lets other threads run. */
static PyObject *attribute_of(PyObject *rows, Py_ssize_t at, PyObject *name) {
  PyObject *row = PyList_GetItem(rows, at);
  return row == NULL ? NULL : PyObject_GetAttr(row, name);
}

/* The column as an array of objects: texts of which some are not known. */
static int gather_objects(const Gather *self, const GatherField *field, PyObject *rows, Py_ssize_t count,
                          PyObject **column) {
  PyObject *array = PyObject_CallFunction(self->empty, "nO", count, self->objects);
  if (array == NULL) return -1;
  int good = 1;
  for (Py_ssize_t i = 0; i < count && good == 1; i++) {
    PyObject *value = attribute_of(rows, i, field->name);
    if (value == NULL) good = -1;
    else if (value == Py_None ? !field->nullable : !PyUnicode_CheckExact(value)) good = 0;
    else if (PySequence_SetItem(array, i, value) < 0) good = -1;
    Py_XDECREF(value);
  }
  if (good == 1) *column = array;
  else Py_DECREF(array);
  return good;
}

static int gather_values(const GatherField *field, PyObject *rows, Py_ssize_t count, void *to) {
  for (Py_ssize_t i = 0; i < count; i++) {
    PyObject *value = attribute_of(rows, i, field->name);
    if (value == NULL) return -1;
    int good = field->kind == FLOAT     ? store_float(field, value, (double *)to + i)
               : field->kind == INTEGER ? store_integer(value, (int64_t *)to + i)
               : field->kind == BOOLEAN ? store_boolean(value, (char *)to + i)
                                        : store_text(field, value, (int32_t *)to + i);
    Py_DECREF(value);
    if (good != 1) return good;
  }
  return 1;
}

/* The row of the block, as it is or as a Dictionary's codes. */
static PyObject *gather_view(const Gather *self, const GatherField *field, PyObject *block) {
  PyObject *row = PySequence_GetItem(block, field->place);
  if (row == NULL || field->kind != TEXT) return row;
  PyObject *made = PyObject_CallFunctionObjArgs(self->dictionary, row, field->values, NULL);
  Py_DECREF(row);
  return made;
}

static int gather_columns(const Gather *self, PyObject *rows, Py_ssize_t count, PyObject **blocks, Py_buffer *views,
                          PyObject *columns) {
  for (Py_ssize_t i = 0; i < self->count; i++) {
    const GatherField *field = &self->fields[i];
    PyObject *column = NULL;
    int good = 2;
    if (field->kind != TEXT || field->known) {
      char *to = (char *)views[field->kind].buf + field->place * count * SIZES[field->kind];
      good = gather_values(field, rows, count, to);
      if (good == 1) column = gather_view(self, field, blocks[field->kind]);
    }
    if (good == 2) good = gather_objects(self, field, rows, count, &column);
    if (good != 1) return good;
    if (column == NULL || PyList_SetItem(columns, i, column) < 0) return -1;
  }
  return 1;
}

static int gather_block(const Gather *self, int kind, Py_ssize_t count, PyObject **block, Py_buffer *view) {
  *block = PyObject_CallFunction(self->empty, "((nn)O)", self->kinds[kind], count, self->dtypes[kind]);
  if (*block == NULL || PyObject_GetBuffer(*block, view, PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE) < 0) {
    view->obj = NULL;
    return -1;
  }
  if (view->len == self->kinds[kind] * count * SIZES[kind]) return 0;
  PyErr_SetString(PyExc_ValueError, "a block of another size");
  return -1;
}

static PyObject *gather_call(Gather *self, PyObject *args, PyObject *kwargs) {
  PyObject *rows, *blocks[KINDS] = {NULL};
  Py_buffer views[KINDS];
  if (kwargs != NULL && PyDict_Size(kwargs)) {
    PyErr_SetString(PyExc_TypeError, "a gather takes rows alone");
    return NULL;
  }
  if (!PyArg_ParseTuple(args, "O!", &PyList_Type, &rows)) return NULL;
  Py_ssize_t count = PyList_Size(rows);
  PyObject *columns = PyList_New(self->count);
  if (columns == NULL) return NULL;
  int good = 1;
  for (int k = 0; k < KINDS; k++) views[k].obj = NULL;
  for (int k = 0; k < KINDS && good == 1; k++)
    if (self->kinds[k] && gather_block(self, k, count, &blocks[k], &views[k]) < 0) good = -1;
  if (good == 1) good = gather_columns(self, rows, count, blocks, views, columns);
  for (int k = 0; k < KINDS; k++) {
    if (views[k].obj) PyBuffer_Release(&views[k]);
    Py_XDECREF(blocks[k]);
  }
  if (good == 1) return columns;
  Py_DECREF(columns);
  return good < 0 ? NULL : Py_NewRef(Py_None);
}

/* The numbers of one row. 0: they are not `width` plain numbers of a magnitude below `ordinary`. */
static int store_row(PyObject *row, Py_ssize_t width, double ordinary, double *to) {
  if (!PyList_CheckExact(row) || PyList_Size(row) != width) return 0;
  for (Py_ssize_t i = 0; i < width; i++) {
    PyObject *value = PyList_GetItem(row, i);
    if (PyFloat_CheckExact(value)) to[i] = PyFloat_AsDouble(value);
    else if (PyLong_CheckExact(value)) {
      int overflow;
      to[i] = (double)PyLong_AsLongLongAndOverflow(value, &overflow);
      if (overflow) return 0;
    } else return 0;
    if (!(fabs(to[i]) < ordinary)) return 0;
  }
  return 1;
}

static PyObject *vectors(PyObject *module, PyObject *args) {
  PyObject *parts, *empty;
  Py_ssize_t width, count = 0;
  double ordinary;
  if (!PyArg_ParseTuple(args, "O!Ond", &PyList_Type, &parts, &empty, &width, &ordinary)) return NULL;
  for (Py_ssize_t i = 0; i < PyList_Size(parts); i++) {
    if (!PyList_CheckExact(PyList_GetItem(parts, i))) Py_RETURN_NONE;
    count += PyList_Size(PyList_GetItem(parts, i));
  }
  if (!count || width <= 0) Py_RETURN_NONE;
  PyObject *array = PyObject_CallFunction(empty, "((nn))", count, width);
  Py_buffer view;
  if (array == NULL || PyObject_GetBuffer(array, &view, PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE) < 0) {
    Py_XDECREF(array);
    return NULL;
  }
  double *to = view.buf, *end = to + view.len / 8; /* making the array may have run code that changed the lists */
  int good = view.itemsize == 8;
  for (Py_ssize_t i = 0; i < PyList_Size(parts) && good; i++) {
    PyObject *rows = PyList_GetItem(parts, i);
    good = PyList_CheckExact(rows);
    for (Py_ssize_t k = 0; good && k < PyList_Size(rows); k++, to += width)
      good = end - to >= width && store_row(PyList_GetItem(rows, k), width, ordinary, to);
  }
  good = good && to == end;
  PyBuffer_Release(&view);
  if (good) return array;
  Py_DECREF(array);
  Py_RETURN_NONE;
}

static PyMethodDef gather_functions[] = {
    {"vectors", vectors, METH_VARARGS,
     "vectors(parts, empty, width, ordinary): the rows of lists of lists of numbers as one array, or None."},
    {NULL, NULL, 0, NULL}};

static PyType_Slot gather_slots[] = {
    {Py_tp_new, gather_new},
    {Py_tp_dealloc, gather_dealloc},
    {Py_tp_call, gather_call},
    {Py_tp_doc, "Gather(fields, empty, dtypes, object, Dictionary)(rows): decoded rows as a list of columns, or None."},
    {0, NULL}};

static PyType_Spec gather_spec = {"bimodal.runtimes.exact.kernels.Gather", sizeof(Gather), 0, Py_TPFLAGS_DEFAULT,
                                  gather_slots};

int gather_register(PyObject *module) {
  PyObject *type = PyType_FromModuleAndSpec(module, &gather_spec, NULL);
  if (type == NULL) return -1;
  int added = PyModule_AddObjectRef(module, "Gather", type);
  Py_DECREF(type);
  return added < 0 ? -1 : PyModule_AddFunctions(module, gather_functions);
}
