/* Sight: the requests that an observer has seen end in a turn of the event loop, and the lines of the access log that
 * tell of them; and what the prediction log keeps of requests. `sight.py` and `origin.py` have the same in Python. */
#include "wire.h"
#include <string.h>

typedef struct {
  PyObject *head, *peer, *name, *note; /* NULL: there is none */
  double received, ended;
  long status;
  long long taken, sent;
} Seen;

typedef struct {
  PyObject_HEAD
  Seen *seen;
  Py_ssize_t count, room;
} Sight;

static PyTypeObject *told_type, *note_type, *head_type; /* NULL before `tell_of` */
static Py_ssize_t told_line, told_age, note_line, head_told;
static PyObject *s_await, *s_read, *s_noted, *s_told, *s_request_id;

static void drop(Seen *seen) {
  Py_XDECREF(seen->head);
  Py_XDECREF(seen->peer);
  Py_XDECREF(seen->name);
  Py_XDECREF(seen->note);
}

static PyObject *some(PyObject *object) { return is_none(object) ? NULL : Py_NewRef(object); }

int sight_add(PyObject *object, PyObject *head, PyObject *peer, double received, long status, long long taken,
              long long sent, PyObject *name, PyObject *note) {
  Sight *self = (Sight *)object;
  if (self->count == self->room) {
    Py_ssize_t room = self->room ? 2 * self->room : 64;
    Seen *larger = PyMem_Realloc(self->seen, (size_t)room * sizeof(Seen));
    if (larger == NULL) {
      PyErr_NoMemory();
      return -1;
    }
    self->seen = larger;
    self->room = room;
  }
  double ended;
  if (monotonic(&ended) < 0) return -1;
  self->seen[self->count++] =
      (Seen){some(head), some(peer), some(name), some(note), received, ended, status, taken, sent};
  if (self->count > 1) return 0;
  PyObject *awaited = PyObject_CallMethodNoArgs(object, s_await);
  Py_XDECREF(awaited);
  return awaited == NULL ? -1 : 0;
}

static PyObject *saw(PyObject *self, PyObject *const *args, Py_ssize_t count) {
  if (count != 8) return PyErr_Format(PyExc_TypeError, "saw takes 8 arguments, not %zd", count);
  double received = PyFloat_AsDouble(args[2]);
  long status = PyLong_AsLong(args[3]);
  long long taken = PyLong_AsLongLong(args[4]), sent = PyLong_AsLongLong(args[5]);
  if (PyErr_Occurred()) return NULL;
  if (sight_add(self, args[0], args[1], received, status, taken, sent, args[6], args[7]) < 0) return NULL;
  Py_RETURN_NONE;
}

/* What was seen, which is then the caller's. */
static Seen *take(Sight *self, Py_ssize_t *count) {
  Seen *seen = self->seen;
  *count = self->count;
  self->seen = NULL;
  self->count = self->room = 0;
  return seen;
}

static void release(Seen *seen, Py_ssize_t count) {
  for (Py_ssize_t i = 0; i < count; i++) drop(&seen[i]);
  PyMem_Free(seen);
}

static PyObject *or_none(PyObject *object) { return object == NULL ? Py_None : object; }

/* taken(): what was seen, as tuples. */
static PyObject *taken(PyObject *self, PyObject *nothing) {
  Py_ssize_t count;
  Seen *seen = take((Sight *)self, &count);
  PyObject *list = PyList_New(count);
  for (Py_ssize_t i = 0; list != NULL && i < count; i++) {
    Seen *one = &seen[i];
    PyObject *told = Py_BuildValue("OOddOlLLO", or_none(one->head), or_none(one->peer), one->received, one->ended,
                                   or_none(one->name), one->status, one->taken, one->sent, or_none(one->note));
    if (told == NULL) Py_CLEAR(list);
    else PyList_SET_ITEM(list, i, told);
  }
  release(seen, count);
  return list;
}

/* ---- lines ---- */

typedef struct {
  char *text;
  size_t size, room;
} Text;

static int grow(Text *text, size_t more) {
  if (text->size + more <= text->room) return 0;
  size_t room = 2 * (text->size + more);
  char *larger = PyMem_Realloc(text->text, room);
  if (larger == NULL) {
    PyErr_NoMemory();
    return -1;
  }
  text->text = larger;
  text->room = room;
  return 0;
}

static int add(Text *text, const char *from, size_t size) {
  if (grow(text, size) < 0) return -1;
  memcpy(text->text + text->size, from, size);
  text->size += size;
  return 0;
}

static int add_bytes(Text *text, PyObject *bytes) {
  if (bytes == NULL) return 0;
  if (!PyBytes_Check(bytes)) {
    PyErr_Format(PyExc_TypeError, "a part of a line must be bytes, not %R", bytes);
    return -1;
  }
  return add(text, PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes));
}

#define ADD(text, words) add(text, words, sizeof(words) - 1)

static int add_number(Text *text, long long number) {
  char digits[24], *at = digits + sizeof digits;
  unsigned long long left = number < 0 ? 0ULL - (unsigned long long)number : (unsigned long long)number;
  do *--at = (char)('0' + left % 10);
  while (left /= 10);
  if (number < 0) *--at = '-';
  return add(text, at, (size_t)(digits + sizeof digits - at));
}

/* Milliseconds, to the microsecond. */
static int add_time(Text *text, double seconds) {
  long long micros = (long long)(seconds * 1e6 + 0.5);
  char rest[4] = {'.', (char)('0' + micros / 100 % 10), (char)('0' + micros / 10 % 10), (char)('0' + micros % 10)};
  return add_number(text, micros / 1000) < 0 ? -1 : add(text, rest, 4);
}

/* What is told of a head, a new reference: as it was read before, unless routes or keys have changed since. */
static PyObject *told_of(PyObject *self, PyObject *head, long long age) {
  PyObject *told = NULL;
  if (head != NULL) {
    told = Py_IS_TYPE(head, head_type) ? Py_XNewRef(AT(head, head_told)) : PyObject_GetAttr(head, s_told);
    if (told == NULL) return NULL;
    if (Py_IS_TYPE(told, told_type)) {
      long long its = PyLong_AsLongLong(AT(told, told_age));
      if (its == age) return told;
      if (its == -1 && PyErr_Occurred()) {
        Py_DECREF(told);
        return NULL;
      }
    }
    Py_DECREF(told);
  }
  told = PyObject_CallMethodOneArg(self, s_read, or_none(head));
  if (told != NULL && !Py_IS_TYPE(told, told_type)) {
    PyErr_Format(PyExc_TypeError, "a head is told by %R", told);
    Py_CLEAR(told);
  }
  return told;
}

/* The part of a line about the note, a new reference. */
static PyObject *noted(PyObject *self, PyObject *note) {
  if (note == NULL) return PyBytes_FromStringAndSize(NULL, 0);
  if (Py_IS_TYPE(note, note_type)) {
    PyObject *line = AT(note, note_line);
    if (line != NULL && PyBytes_CheckExact(line) && PyBytes_GET_SIZE(line)) return Py_NewRef(line);
  }
  return PyObject_CallMethodOneArg(self, s_noted, note);
}

static int add_line(PyObject *self, Text *text, const char *begin, Py_ssize_t size, const Seen *one, long long age) {
  PyObject *told = told_of(self, one->head, age);
  PyObject *note = told == NULL ? NULL : noted(self, one->note);
  int done = -1;
  if (note != NULL && add(text, begin, (size_t)size) == 0 && add_bytes(text, one->name) == 0 && ADD(text, "\",") == 0 &&
      add_bytes(text, AT(told, told_line)) == 0 && add_number(text, one->status) == 0 && add_bytes(text, note) == 0 &&
      ADD(text, ",\"bytes_in\":") == 0 && add_number(text, one->taken) == 0 && ADD(text, ",\"bytes_out\":") == 0 &&
      add_number(text, one->sent) == 0 && ADD(text, ",\"ms\":") == 0 && add_time(text, one->ended - one->received) == 0 &&
      add_bytes(text, one->peer) == 0 && ADD(text, "}\n") == 0)
    done = 0;
  Py_XDECREF(told);
  Py_XDECREF(note);
  return done;
}

/* lines(begin, age): a line for each request that was seen, and how many. */
static PyObject *lines(PyObject *self, PyObject *args) {
  const char *begin;
  Py_ssize_t size, count;
  long long age;
  if (!PyArg_ParseTuple(args, "y#L", &begin, &size, &age)) return NULL;
  if (told_type == NULL) {
    PyErr_SetString(PyExc_RuntimeError, "tell_of was not called");
    return NULL;
  }
  Seen *seen = take((Sight *)self, &count);
  Text text = {NULL, 0, 0};
  int done = grow(&text, (size_t)(count + 1) * 384);
  for (Py_ssize_t i = 0; done == 0 && i < count; i++) done = add_line(self, &text, begin, size, &seen[i], age);
  release(seen, count);
  PyObject *told = done == 0 ? Py_BuildValue("y#n", text.text, (Py_ssize_t)text.size, count) : NULL;
  PyMem_Free(text.text);
  return told;
}

static int sight_traverse(PyObject *self, visitproc visit, void *arg) {
  Sight *sight = (Sight *)self;
  for (Py_ssize_t i = 0; i < sight->count; i++) {
    Py_VISIT(sight->seen[i].head);
    Py_VISIT(sight->seen[i].note);
  }
  return 0;
}

static int sight_clear(PyObject *self) {
  Py_ssize_t count;
  Seen *seen = take((Sight *)self, &count);
  release(seen, count);
  return 0;
}

static void sight_dealloc(PyObject *self) {
  PyObject_GC_UnTrack(self);
  sight_clear(self);
  Py_TYPE(self)->tp_free(self);
}

static PyMethodDef sight_methods[] = {
    {"saw", (PyCFunction)(void (*)(void))saw, METH_FASTCALL,
     "saw(head, peer, received, status, taken, sent, name, note): a request has ended."},
    {"taken", taken, METH_NOARGS, "taken(): what was seen, as tuples, and no longer kept here."},
    {"lines", lines, METH_VARARGS, "lines(begin, age): the same as lines of the access log, and their number."},
    {NULL, NULL, 0, NULL}};

PyTypeObject sight_type = {PyVarObject_HEAD_INIT(NULL, 0).tp_name = "bimodal.realtime.wire.Sight",
                           .tp_doc = "The requests that have ended in this turn.",
                           .tp_basicsize = sizeof(Sight),
                           .tp_new = PyType_GenericNew,
                           .tp_dealloc = sight_dealloc,
                           .tp_traverse = sight_traverse,
                           .tp_clear = sight_clear,
                           .tp_methods = sight_methods,
                           .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC};

/* ---- what the prediction log keeps of requests ---- */

static PyTypeObject *work_type, *request_type; /* NULL before `gist_of` */
static Py_ssize_t work_door, work_request, work_count, work_extra, request_name, request_body,
    request_headers;

/* Whether they are plain requests to one door: 1, 0. weight: bytes of their bodies. named: how many have an id; width:
 * of their ids, -1 where it differs. */
static int is_plain(PyObject *const *works, Py_ssize_t count, Py_ssize_t *weight, Py_ssize_t *named, Py_ssize_t *width) {
  PyObject *door = NULL;
  *weight = *named = *width = 0;
  for (Py_ssize_t i = 0; i < count; i++) {
    if (!Py_IS_TYPE(works[i], work_type)) return 0;
    PyObject *request = AT(works[i], work_request), *its = AT(works[i], work_door);
    if (door == NULL) door = its;
    if (its != door || !is_none(AT(works[i], work_extra)) || request == NULL || !Py_IS_TYPE(request, request_type))
      return 0;
    PyObject *name = AT(request, request_name), *body = AT(request, request_body);
    if (body == NULL || !PyBytes_CheckExact(body)) return 0;
    *weight += PyBytes_GET_SIZE(body);
    if (is_none(name)) continue;
    if (!PyBytes_CheckExact(name)) return 0;
    if (*named == 0) *width = PyBytes_GET_SIZE(name);
    else if (*width != PyBytes_GET_SIZE(name)) *width = -1;
    *named += 1;
  }
  return count > 0;
}

/* The ids one after another where they are of one width, else a list; None where nobody has one. */
static PyObject *names_of(PyObject *const *works, Py_ssize_t count, Py_ssize_t named, Py_ssize_t width) {
  if (named == 0) return Py_NewRef(Py_None);
  int packed = named == count && width > 0;
  PyObject *names = packed ? PyBytes_FromStringAndSize(NULL, count * width) : PyList_New(count);
  for (Py_ssize_t i = 0; names != NULL && i < count; i++) {
    PyObject *name = AT(AT(works[i], work_request), request_name);
    if (packed) memcpy(PyBytes_AS_STRING(names) + i * width, PyBytes_AS_STRING(name), (size_t)width);
    else PyList_SET_ITEM(names, i, Py_NewRef(or_none(name)));
  }
  return names;
}

/* are_unnamed(works): see origin.py. */
static PyObject *are_unnamed(PyObject *module, PyObject *given) {
  if (work_type == NULL || !(PyList_CheckExact(given) || PyTuple_CheckExact(given))) Py_RETURN_FALSE;
  PyObject *last = NULL;
  for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(given); i++) {
    PyObject *work = PySequence_Fast_GET_ITEM(given, i);
    if (!Py_IS_TYPE(work, work_type)) Py_RETURN_FALSE;
    PyObject *request = AT(work, work_request);
    if (!is_none(AT(work, work_extra)) || request == NULL || !Py_IS_TYPE(request, request_type)) Py_RETURN_FALSE;
    PyObject *headers = AT(request, request_headers);
    if (headers == NULL) Py_RETURN_FALSE;
    if (headers == last) continue; /* most have the same head */
    int named = PySequence_Contains(headers, s_request_id);
    if (named < 0) return NULL;
    if (named) Py_RETURN_FALSE;
    last = headers;
  }
  Py_RETURN_TRUE;
}

/* The rows of each, as int64 one after another. NULL with an exception; without one where they are no numbers. */
static PyObject *counts_of(PyObject *const *works, Py_ssize_t count) {
  PyObject *counts = PyBytes_FromStringAndSize(NULL, count * (Py_ssize_t)sizeof(int64_t));
  for (Py_ssize_t i = 0; counts != NULL && i < count; i++) {
    PyObject *number = AT(works[i], work_count);
    int64_t rows = number == NULL || !PyLong_CheckExact(number) ? -1 : (int64_t)PyLong_AsLongLong(number);
    if (rows < 0) Py_CLEAR(counts); /* too many is an exception */
    else memcpy(PyBytes_AS_STRING(counts) + i * (Py_ssize_t)sizeof rows, &rows, sizeof rows);
  }
  return counts;
}

/* gist(works): see origin.py. */
static PyObject *gist(PyObject *module, PyObject *given) {
  if (work_type == NULL || !(PyList_CheckExact(given) || PyTuple_CheckExact(given))) Py_RETURN_NONE;
  PyObject *const *works = PySequence_Fast_ITEMS(given);
  Py_ssize_t count = PySequence_Fast_GET_SIZE(given), weight, named, width;
  if (!is_plain(works, count, &weight, &named, &width)) Py_RETURN_NONE;
  PyObject *counts = counts_of(works, count);
  if (counts == NULL) return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
  PyObject *names = names_of(works, count, named, width);
  if (names != NULL) return Py_BuildValue("(NNn)", counts, names, weight);
  Py_DECREF(counts);
  return NULL;
}

/* gist_of(work, request): the classes that it looks at. */
static PyObject *gist_of(PyObject *module, PyObject *args) {
  PyObject *work, *request;
  if (!PyArg_ParseTuple(args, "O!O!", &PyType_Type, &work, &PyType_Type, &request)) return NULL;
  if (find(work, "door", &work_door) < 0 || find(work, "request", &work_request) < 0 ||
      find(work, "count", &work_count) < 0 || find(work, "extra", &work_extra) < 0 ||
      find(request, "name", &request_name) < 0 || find(request, "body", &request_body) < 0 ||
      find(request, "headers", &request_headers) < 0)
    return NULL;
  put((PyObject **)&work_type, work);
  put((PyObject **)&request_type, request);
  Py_RETURN_NONE;
}

/* tell_of(told, note, head): the classes that lines are made of. */
static PyObject *tell_of(PyObject *module, PyObject *args) {
  PyObject *told, *note, *head;
  if (!PyArg_ParseTuple(args, "O!O!O!", &PyType_Type, &told, &PyType_Type, &note, &PyType_Type, &head)) return NULL;
  if (find(told, "line", &told_line) < 0 || find(told, "age", &told_age) < 0 || find(note, "line", &note_line) < 0 ||
      find(head, "told", &head_told) < 0)
    return NULL;
  put((PyObject **)&told_type, told);
  put((PyObject **)&note_type, note);
  put((PyObject **)&head_type, head);
  Py_RETURN_NONE;
}

static PyMethodDef sight_functions[] = {{"tell_of", tell_of, METH_VARARGS, NULL},
                                        {"gist", gist, METH_O, NULL},
                                        {"are_unnamed", are_unnamed, METH_O, NULL},
                                        {"gist_of", gist_of, METH_VARARGS, NULL},
                                        {NULL, NULL, 0, NULL}};

int sight_ready(PyObject *module) {
  if ((s_await = PyUnicode_InternFromString("await_end")) == NULL) return -1;
  if ((s_read = PyUnicode_InternFromString("read")) == NULL) return -1;
  if ((s_noted = PyUnicode_InternFromString("noted")) == NULL) return -1;
  if ((s_told = PyUnicode_InternFromString("told")) == NULL) return -1;
  if ((s_request_id = PyBytes_FromString("x-request-id")) == NULL) return -1;
  if (PyModule_AddFunctions(module, sight_functions) < 0) return -1;
  return PyModule_AddType(module, &sight_type);
}
