/* The module `wire`: the way of most requests of HTTP/1.1 through a connection, and of their answers back, without a
 * line of Python. What is rare is left to the methods of the types made of these: `receive` of a Wire, `respond` of a
 * Reply. `plain.py` has the same types in Python, for where there was no compiler; the fields are explained there. */
#include "wire.h"
#include <string.h>

enum { TAKES_FIRST, TAKES_HEAD }; /* `taking` of a Wire */
enum { OPEN, STARTED, DONE, GONE }; /* `state` of a Reply */

typedef struct {
  PyObject_HEAD
  PyObject *call, *routes, *guard, *observer, *heads, *connections, *rendering, *ending;
  Py_ssize_t most;
  char draining;
  long start_status; /* of `start`, the beginning of an answer made last */
  PyObject *start_type, *start;
} Hub;

typedef struct {
  PyObject_HEAD
  PyObject *listener, *write, *queue, *held, *last, *head, *cork, *body, *peer;
  PyObject *verdict; /* of the guard's, looked at last, which lets in: */
  long long generation;
  double until;
  double since;
  int taking, phase;
  char more, blocked, stalled;
} Wire;

typedef struct {
  PyObject_HEAD
  PyObject *connection, *head, *name, *cancel, *intake, *kept, *begun;
  double received, called;
  Py_ssize_t taken, sent;
  int state;
  char closes, chunked, expired, asking;
} Reply;

/* What the rest of the package makes, and where its fields are: `attach` asks once. */
typedef struct {
  Py_ssize_t head_method, head_path, head_query, head_headers, head_length, head_keep_alive, head_request_id, head_plain,
      head_whole, head_verdict, head_route;
  Py_ssize_t verdict_generation, verdict_until, verdict_error;
  Py_ssize_t response_status, response_body, response_content_type, response_headers, response_note;
} Places;

static PyTypeObject wire_type;
static PyTypeObject *exchange_type, *head_type, *verdict_type, *response_type; /* NULL before `attach` */
static PyObject *request_type, *nothing;
static Places places;
static PyObject *s_receive, *s_respond, *s_fail, *s_generation, *s_name, *s_saw, *s_start, *s_advance;

/* ---- a request on its way in ---- */

/* Whether the guard lets this head in without being asked again: 1, 0, or -1 with an exception. */
static int let_in(Wire *self, PyObject *guard, PyObject *head, double now) {
  PyObject *told = PyObject_GetAttr(guard, s_generation);
  if (told == NULL) return -1;
  long long generation = PyLong_AsLongLong(told);
  Py_DECREF(told);
  if (generation == -1 && PyErr_Occurred()) return -1;
  PyObject *verdict = AT(head, places.head_verdict);
  if (verdict == NULL || !Py_IS_TYPE(verdict, verdict_type)) return 0;
  if (verdict != self->verdict) {
    if (AT(verdict, places.verdict_error) != Py_None) return 0;
    long long its = PyLong_AsLongLong(AT(verdict, places.verdict_generation));
    double until = PyFloat_AsDouble(AT(verdict, places.verdict_until));
    if (PyErr_Occurred()) return -1;
    put(&self->verdict, verdict);
    self->generation = its;
    self->until = until;
  }
  return self->generation == generation && now < self->until;
}

/* The head that the data begins with, borrowed, where its bytes were seen before; its size in `end`. */
static PyObject *seen(Wire *self, Hub *hub, const char *data, Py_ssize_t size, Py_ssize_t *end) {
  if (self->last != NULL && PyBytes_CheckExact(self->last) && !is_none(self->head)) {
    Py_ssize_t last = PyBytes_GET_SIZE(self->last);
    if (last > 0 && size >= last && memcmp(data, PyBytes_AS_STRING(self->last), last) == 0) {
      *end = last;
      return self->head;
    }
  }
  const char *found = NULL, *from = data, *stop = data + size - 3;
  while (from < stop && (from = memchr(from, '\r', stop - from)) != NULL) {
    if (memcmp(from, "\r\n\r\n", 4) == 0) {
      found = from;
      break;
    }
    from++;
  }
  if (found == NULL) return NULL;
  *end = found + 4 - data;
  PyObject *raw = PyBytes_FromStringAndSize(data, *end);
  if (raw == NULL) return NULL;
  PyObject *head = PyDict_GetItemWithError(hub->heads, raw);
  if (head != NULL) {
    put(&self->last, raw);
    put(&self->head, head);
  }
  Py_DECREF(raw);
  return head;
}

/* Give the app the request. What it raises goes to the exchange's `fail`. */
static int ask(Hub *hub, Reply *reply, PyObject *head, const char *body, Py_ssize_t length, double now, int alone) {
  PyObject *content = PyBytes_FromStringAndSize(body, length);
  PyObject *received = PyFloat_FromDouble(now);
  PyObject *given = AT(head, places.head_request_id);
  PyObject *given_or_own = is_none(given) ? (reply->name == NULL ? Py_None : reply->name) : given;
  PyObject *request = NULL, *cancel = NULL;
  if (content != NULL && received != NULL) {
    PyObject *told[] = {AT(head, places.head_method), AT(head, places.head_path), AT(head, places.head_query),
                        AT(head, places.head_headers), content, received, alone ? Py_True : Py_False, given_or_own};
    request = PyObject_Vectorcall(request_type, told, 8, NULL);
  }
  Py_XDECREF(content);
  Py_XDECREF(received);
  if (request == NULL) return -1;
  PyObject *handler = NULL, *route = AT(head, places.head_route);
  if (hub->routes != NULL && PyDict_CheckExact(hub->routes)) {
    handler = PyDict_GetItemWithError(hub->routes, route);
    if (handler == NULL && PyErr_Occurred()) {
      Py_DECREF(request);
      return -1;
    }
  }
  if (handler == NULL) handler = hub->call;
  Py_INCREF(handler); /* the routes may change in it */
  PyObject *both[] = {request, (PyObject *)reply};
  cancel = PyObject_Vectorcall(handler, both, 2, NULL);
  Py_DECREF(handler);
  Py_DECREF(request);
  if (cancel != NULL) {
    if (reply->state == OPEN) put(&reply->cancel, cancel == Py_None ? nothing : cancel);
    Py_DECREF(cancel);
    return 0;
  }
  if (!PyErr_ExceptionMatches(PyExc_Exception)) return -1;
  PyObject *type, *error, *trace;
  PyErr_Fetch(&type, &error, &trace);
  PyErr_NormalizeException(&type, &error, &trace);
  if (trace != NULL) PyException_SetTraceback(error, trace);
  PyObject *done = PyObject_CallMethodOneArg((PyObject *)reply, s_fail, error);
  Py_XDECREF(type);
  Py_XDECREF(error);
  Py_XDECREF(trace);
  Py_XDECREF(done);
  return done == NULL ? -1 : 0;
}

static Reply *exchange(Wire *wire, PyObject *head, double now, PyObject *own) {
  Reply *made = (Reply *)exchange_type->tp_alloc(exchange_type, 0);
  if (made == NULL) return NULL;
  made->connection = Py_NewRef((PyObject *)wire);
  made->head = Py_NewRef(head);
  made->name = Py_XNewRef(own);
  made->received = now;
  made->taken = -1;
  return made;
}

/* 1: the request was taken; 0: it goes the other way; -1: an exception. */
static int take(Wire *self, PyObject *data) {
  if (self->taking != TAKES_HEAD || self->blocked || !PyBytes_CheckExact(data) || is_none(self->listener)) return 0;
  if (self->held == NULL || !PyBytes_CheckExact(self->held) || PyBytes_GET_SIZE(self->held)) return 0;
  if (self->queue == NULL || !PyList_CheckExact(self->queue) || PyList_GET_SIZE(self->queue)) return 0;
  if (!is_none(self->cork)) return 0;
  Hub *hub = (Hub *)self->listener;
  const char *bytes = PyBytes_AS_STRING(data);
  Py_ssize_t size = PyBytes_GET_SIZE(data), end = 0;
  PyObject *head = seen(self, hub, bytes, size, &end);
  if (head == NULL) return PyErr_Occurred() ? -1 : 0;
  if (!Py_IS_TYPE(head, head_type) || AT(head, places.head_whole) != Py_True ||
      AT(head, places.head_keep_alive) != Py_True)
    return 0;
  Py_ssize_t length = PyLong_AsSsize_t(AT(head, places.head_length));
  if (length == -1 && PyErr_Occurred()) return -1;
  if (length < 0 || length > hub->most || length != size - end) return 0;
  double now;
  if (monotonic(&now) < 0) return -1;
  if (!is_none(hub->guard)) {
    int good = let_in(self, hub->guard, head, now);
    if (good != 1) return good;
  }
  PyObject *own = NULL;
  if (!is_none(hub->observer) && is_none(AT(head, places.head_request_id))) {
    own = PyObject_CallMethodNoArgs(hub->observer, s_name);
    if (own == NULL) return -1;
  }
  Py_INCREF(head);
  Reply *reply = exchange(self, head, now, own);
  Py_XDECREF(own);
  int done = -1;
  if (reply != NULL && PyList_Append(self->queue, (PyObject *)reply) == 0) {
    self->phase = 0;
    self->more = 0;
    int alone = PyAnySet_Check(hub->connections) && PySet_GET_SIZE(hub->connections) == 1;
    Py_INCREF(hub);
    done = ask(hub, reply, head, bytes + end, length, now, alone) < 0 ? -1 : 1;
    Py_DECREF(hub);
  }
  Py_XDECREF(reply);
  Py_DECREF(head);
  return done;
}

static PyObject *data_received(PyObject *self, PyObject *data) {
  int taken = take((Wire *)self, data);
  if (taken < 0) return NULL;
  if (taken) Py_RETURN_NONE;
  return PyObject_CallMethodOneArg(self, s_receive, data);
}

/* ---- its answer on the way out ---- */

static int is_line(const char *text, Py_ssize_t size) {
  return memchr(text, '\n', size) == NULL && memchr(text, '\r', size) == NULL;
}

static char *copied(char *to, PyObject *bytes) {
  memcpy(to, PyBytes_AS_STRING(bytes), PyBytes_GET_SIZE(bytes));
  return to + PyBytes_GET_SIZE(bytes);
}

/* The status line and the content type, borrowed; NULL: with an exception. */
static PyObject *start_of(Hub *hub, PyObject *response, long status) {
  PyObject *kind = AT(response, places.response_content_type);
  if (hub->start == NULL || hub->start_status != status || hub->start_type != kind) {
    PyObject *start = PyObject_CallMethodOneArg(hub->rendering, s_start, response);
    if (start == NULL) return NULL;
    put(&hub->start, start);
    put(&hub->start_type, kind);
    hub->start_status = status;
    Py_DECREF(start);
  }
  return hub->start;
}

/* The bytes of an answer whose head holds nothing rare. NULL without an exception: it does. */
static PyObject *rendered(Hub *hub, PyObject *response, long status, PyObject *name) {
  PyObject *headers = AT(response, places.response_headers), *body = AT(response, places.response_body);
  if (hub->ending == NULL || !PyBytes_CheckExact(hub->ending) || !PyTuple_CheckExact(headers)) return NULL;
  PyObject *start = start_of(hub, response, status);
  if (start == NULL || !PyBytes_CheckExact(start)) return NULL;
  char length[24], *digits = length + sizeof length;
  Py_ssize_t left = PyBytes_GET_SIZE(body);
  do *--digits = (char)('0' + left % 10);
  while (left /= 10);
  Py_ssize_t wide = length + sizeof length - digits, count = PyTuple_GET_SIZE(headers);
  Py_ssize_t size = PyBytes_GET_SIZE(start) + 16 + wide + 2 + PyBytes_GET_SIZE(hub->ending) + PyBytes_GET_SIZE(body);
  for (Py_ssize_t i = 0; i < count; i++) {
    PyObject *pair = PyTuple_GET_ITEM(headers, i);
    if (!PyTuple_CheckExact(pair) || PyTuple_GET_SIZE(pair) != 2) return NULL;
    for (int k = 0; k < 2; k++) {
      PyObject *part = PyTuple_GET_ITEM(pair, k);
      if (!PyBytes_CheckExact(part) || !is_line(PyBytes_AS_STRING(part), PyBytes_GET_SIZE(part))) return NULL;
      size += PyBytes_GET_SIZE(part) + 2;
    }
  }
  if (name != NULL) size += 14 + PyBytes_GET_SIZE(name) + 2;
  PyObject *made = PyBytes_FromStringAndSize(NULL, size);
  if (made == NULL) return NULL;
  char *to = copied(PyBytes_AS_STRING(made), start);
  for (Py_ssize_t i = 0; i < count; i++) {
    PyObject *pair = PyTuple_GET_ITEM(headers, i);
    to = copied(to, PyTuple_GET_ITEM(pair, 0));
    *to++ = ':', *to++ = ' ';
    to = copied(to, PyTuple_GET_ITEM(pair, 1));
    *to++ = '\r', *to++ = '\n';
  }
  memcpy(to, "content-length: ", 16);
  memcpy(to + 16, digits, (size_t)wide);
  to += 16 + wide;
  *to++ = '\r', *to++ = '\n';
  to = copied(to, hub->ending);
  if (name != NULL) {
    memcpy(to - 2, "x-request-id: ", 14); /* in the place of the empty line */
    to = copied(to + 12, name);
    memcpy(to, "\r\n\r\n", 4);
    to += 4;
  }
  copied(to, body);
  return made;
}

/* Tell the observer. */
static int observed(Hub *hub, Wire *wire, Reply *self, PyObject *response) {
  if (PyObject_TypeCheck(hub->observer, &sight_type)) {
    Py_ssize_t taken = PyLong_AsSsize_t(AT(self->head, places.head_length));
    long status = PyLong_AsLong(AT(response, places.response_status));
    if (PyErr_Occurred()) return -1;
    return sight_add(hub->observer, self->head, wire->peer, self->received, status, taken,
                     PyBytes_GET_SIZE(AT(response, places.response_body)), self->name, AT(response, places.response_note));
  }
  PyObject *received = PyFloat_FromDouble(self->received);
  PyObject *sent = PyLong_FromSsize_t(PyBytes_GET_SIZE(AT(response, places.response_body)));
  PyObject *done = NULL;
  if (received != NULL && sent != NULL) {
    PyObject *told[] = {hub->observer, self->head, wire->peer == NULL ? Py_None : wire->peer, received,
                        AT(response, places.response_status), AT(self->head, places.head_length), sent, self->name,
                        AT(response, places.response_note)};
    done = PyObject_VectorcallMethod(s_saw, told, 9 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
  }
  Py_XDECREF(received);
  Py_XDECREF(sent);
  Py_XDECREF(done);
  return done == NULL ? -1 : 0;
}

/* Whether the answer to this request is the one that goes out next, and nothing else hangs on it. */
static int is_next(Wire *wire, Reply *self) {
  return wire->queue != NULL && PyList_CheckExact(wire->queue) && PyList_GET_SIZE(wire->queue) == 1 &&
         PyList_GET_ITEM(wire->queue, 0) == (PyObject *)self && is_none(wire->body) && is_none(wire->cork) &&
         !wire->stalled;
}

static int advance(Wire *wire) {
  PyObject *done = PyObject_CallMethodNoArgs((PyObject *)wire, s_advance);
  Py_XDECREF(done);
  return done == NULL ? -1 : 0;
}

/* 1: the answer is out; 0: it goes the other way; -1: an exception. */
static int answer(Reply *self, PyObject *response) {
  if (self->state != OPEN || self->closes || self->asking || is_none(self->head) || is_none(self->connection)) return 0;
  if (!PyObject_TypeCheck(self->connection, &wire_type) || !Py_IS_TYPE(response, response_type)) return 0;
  Wire *wire = (Wire *)self->connection;
  if (is_none(wire->listener) || is_none(wire->write) || !is_next(wire, self)) return 0;
  Hub *hub = (Hub *)wire->listener;
  if (hub->draining || is_none(hub->rendering)) return 0;
  if (!Py_IS_TYPE(self->head, head_type) || AT(self->head, places.head_plain) != Py_True) return 0;
  PyObject *body = AT(response, places.response_body), *name = is_none(self->name) ? NULL : self->name;
  long status = PyLong_AsLong(AT(response, places.response_status));
  if (status == -1 && PyErr_Occurred()) return -1;
  if (!PyBytes_CheckExact(body) || (name != NULL && !PyBytes_CheckExact(name)) || status == 204 || status == 304) return 0;
  int watched = !is_none(hub->observer);
  if (watched ? name == NULL || self->taken >= 0 || status >= 400 : name != NULL) return 0;
  PyObject *data = rendered(hub, response, status, name);
  if (data == NULL) return PyErr_Occurred() ? -1 : 0;
  int done = -1;
  if (!watched || observed(hub, wire, self, response) == 0) {
    put(&self->cancel, NULL);
    PyObject *written = PyObject_CallOneArg(wire->write, data);
    if (written != NULL) {
      Py_DECREF(written);
      self->state = DONE;
      done = is_next(wire, self) ? PyList_SetSlice(wire->queue, 0, 1, NULL) : advance(wire); /* `write` may do much */
      if (done == 0) done = monotonic(&wire->since) < 0 ? -1 : 1;
    }
  }
  Py_DECREF(data);
  return done;
}

static PyObject *reply_call(PyObject *self, PyObject *args, PyObject *named) {
  if (PyTuple_GET_SIZE(args) != 1 || (named != NULL && PyDict_GET_SIZE(named))) {
    PyErr_SetString(PyExc_TypeError, "a reply is called with one response");
    return NULL;
  }
  PyObject *response = PyTuple_GET_ITEM(args, 0);
  Py_INCREF(self); /* nobody else may hold it once it has left the queue */
  int done = answer((Reply *)self, response);
  PyObject *told = NULL;
  if (done == 1)
    told = Py_NewRef(Py_None);
  else if (done == 0)
    told = PyObject_CallMethodOneArg(self, s_respond, response);
  Py_DECREF(self);
  return told;
}

/* ---- the types ---- */

/* What each holds: the collector is shown all of it, and its end lets go of all of it. */
#define OF_HUB(EACH)                                                                                                   \
  EACH(call) EACH(routes) EACH(guard) EACH(observer) EACH(heads) EACH(connections) EACH(rendering) EACH(ending)         \
  EACH(start_type) EACH(start)
#define OF_WIRE(EACH)                                                                                                  \
  EACH(listener) EACH(write) EACH(queue) EACH(held) EACH(last) EACH(head) EACH(cork) EACH(body) EACH(peer) EACH(verdict)
#define OF_REPLY(EACH)                                                                                                 \
  EACH(connection) EACH(head) EACH(name) EACH(cancel) EACH(intake) EACH(kept) EACH(begun)
#define SHOW(field) Py_VISIT(its->field);
#define LET_GO(field) Py_CLEAR(its->field);
#define LIFE(name, type, OF)                                                                                           \
  static int name##_traverse(PyObject *self, visitproc visit, void *arg) {                                             \
    type *its = (type *)self;                                                                                          \
    OF(SHOW)                                                                                                           \
    return 0;                                                                                                          \
  }                                                                                                                    \
  static int name##_clear(PyObject *self) {                                                                            \
    type *its = (type *)self;                                                                                          \
    OF(LET_GO)                                                                                                         \
    return 0;                                                                                                          \
  }                                                                                                                    \
  static void name##_dealloc(PyObject *self) {                                                                         \
    PyObject_GC_UnTrack(self);                                                                                         \
    name##_clear(self);                                                                                                \
    Py_TYPE(self)->tp_free(self);                                                                                      \
  }
LIFE(hub, Hub, OF_HUB)
LIFE(wire, Wire, OF_WIRE)
LIFE(reply, Reply, OF_REPLY)

static int reply_init(PyObject *object, PyObject *args, PyObject *named) {
  static char *names[] = {"connection", "head", "closes", "received", "name", "state", NULL};
  Reply *self = (Reply *)object;
  PyObject *connection, *head, *name = Py_None;
  int closes, state = OPEN;
  double received;
  if (!PyArg_ParseTupleAndKeywords(args, named, "OOpd|Oi", names, &connection, &head, &closes, &received, &name, &state))
    return -1;
  put(&self->connection, connection);
  put(&self->head, head);
  put(&self->name, name);
  self->closes = (char)closes;
  self->received = received;
  self->state = state;
  self->taken = -1;
  return 0;
}

static PyMemberDef hub_members[] = {
    {"call", T_OBJECT, offsetof(Hub, call), 0, NULL},
    {"routes", T_OBJECT, offsetof(Hub, routes), 0, NULL},
    {"guard", T_OBJECT, offsetof(Hub, guard), 0, NULL},
    {"observer", T_OBJECT, offsetof(Hub, observer), 0, NULL},
    {"heads", T_OBJECT, offsetof(Hub, heads), 0, NULL},
    {"connections", T_OBJECT, offsetof(Hub, connections), 0, NULL},
    {"rendering", T_OBJECT, offsetof(Hub, rendering), 0, NULL},
    {"ending", T_OBJECT, offsetof(Hub, ending), 0, NULL},
    {"most", T_PYSSIZET, offsetof(Hub, most), 0, NULL},
    {"draining", T_BOOL, offsetof(Hub, draining), 0, NULL},
    {NULL, 0, 0, 0, NULL}};

static PyMemberDef wire_members[] = {
    {"listener", T_OBJECT, offsetof(Wire, listener), 0, NULL},
    {"queue", T_OBJECT, offsetof(Wire, queue), 0, NULL},
    {"body", T_OBJECT, offsetof(Wire, body), 0, NULL},
    {"peer", T_OBJECT, offsetof(Wire, peer), 0, NULL},
    {"_write", T_OBJECT, offsetof(Wire, write), 0, NULL},
    {"_held", T_OBJECT, offsetof(Wire, held), 0, NULL},
    {"_last", T_OBJECT, offsetof(Wire, last), 0, NULL},
    {"_head", T_OBJECT, offsetof(Wire, head), 0, NULL},
    {"_cork", T_OBJECT, offsetof(Wire, cork), 0, NULL},
    {"_since", T_DOUBLE, offsetof(Wire, since), 0, NULL},
    {"_taking", T_INT, offsetof(Wire, taking), 0, NULL},
    {"_phase", T_INT, offsetof(Wire, phase), 0, NULL},
    {"_more", T_BOOL, offsetof(Wire, more), 0, NULL},
    {"_blocked", T_BOOL, offsetof(Wire, blocked), 0, NULL},
    {"_stalled", T_BOOL, offsetof(Wire, stalled), 0, NULL},
    {NULL, 0, 0, 0, NULL}};

static PyMemberDef reply_members[] = {
    {"connection", T_OBJECT, offsetof(Reply, connection), 0, NULL},
    {"head", T_OBJECT, offsetof(Reply, head), 0, NULL},
    {"name", T_OBJECT, offsetof(Reply, name), 0, NULL},
    {"cancel", T_OBJECT, offsetof(Reply, cancel), 0, NULL},
    {"intake", T_OBJECT, offsetof(Reply, intake), 0, NULL},
    {"kept", T_OBJECT, offsetof(Reply, kept), 0, NULL},
    {"begun", T_OBJECT, offsetof(Reply, begun), 0, NULL},
    {"received", T_DOUBLE, offsetof(Reply, received), 0, NULL},
    {"called", T_DOUBLE, offsetof(Reply, called), 0, NULL},
    {"taken", T_PYSSIZET, offsetof(Reply, taken), 0, NULL},
    {"sent", T_PYSSIZET, offsetof(Reply, sent), 0, NULL},
    {"state", T_INT, offsetof(Reply, state), 0, NULL},
    {"closes", T_BOOL, offsetof(Reply, closes), 0, NULL},
    {"chunked", T_BOOL, offsetof(Reply, chunked), 0, NULL},
    {"expired", T_BOOL, offsetof(Reply, expired), 0, NULL},
    {"asking", T_BOOL, offsetof(Reply, asking), 0, NULL},
    {NULL, 0, 0, 0, NULL}};

static PyMethodDef wire_methods[] = {{"data_received", data_received, METH_O, NULL}, {NULL, NULL, 0, NULL}};

#define COMMON(type, name)                                                                                               \
  PyVarObject_HEAD_INIT(NULL, 0).tp_basicsize = sizeof(type), .tp_new = PyType_GenericNew,                              \
                           .tp_dealloc = name##_dealloc, .tp_traverse = name##_traverse, .tp_clear = name##_clear,        \
                           .tp_members = name##_members,                                                               \
                           .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC

static PyTypeObject hub_type = {COMMON(Hub, hub),
                                .tp_name = "bimodal.realtime.wire.Hub",
                                .tp_doc = "What the connections of a listener share.",};
static PyTypeObject wire_type = {COMMON(Wire, wire),
                                 .tp_name = "bimodal.realtime.wire.Wire",
                                 .tp_doc = "One connection.",
                                 .tp_methods = wire_methods};
static PyTypeObject reply_type = {COMMON(Reply, reply),
                                  .tp_name = "bimodal.realtime.wire.Reply",
                                  .tp_doc = "One request, and its answer on its way.",
                                  .tp_init = reply_init,
                                  .tp_call = reply_call};

/* ---- the module ---- */

#define FIND(type, name)                                                                                               \
  if (find((PyObject *)type##_type, #name, &places.type##_##name) < 0) return NULL

/* attach(kind, head, request, response, verdict, nothing): the classes that the rest is made of. */
static PyObject *attach(PyObject *module, PyObject *args) {
  PyObject *kind, *head, *request, *response, *verdict, *nothing_done;
  if (!PyArg_ParseTuple(args, "O!O!O!O!O!O", &PyType_Type, &kind, &PyType_Type, &head, &PyType_Type, &request,
                        &PyType_Type, &response, &PyType_Type, &verdict, &nothing_done))
    return NULL;
  if (!PyType_IsSubtype((PyTypeObject *)kind, &reply_type)) {
    PyErr_SetString(PyExc_TypeError, "kind must be made of Reply");
    return NULL;
  }
  put((PyObject **)&exchange_type, kind);
  put((PyObject **)&head_type, head);
  put((PyObject **)&response_type, response);
  put((PyObject **)&verdict_type, verdict);
  put(&request_type, request);
  put(&nothing, nothing_done);
  FIND(head, method);
  FIND(head, path);
  FIND(head, query);
  FIND(head, headers);
  FIND(head, length);
  FIND(head, keep_alive);
  FIND(head, request_id);
  FIND(head, plain);
  FIND(head, whole);
  FIND(head, verdict);
  FIND(head, route);
  FIND(verdict, generation);
  FIND(verdict, until);
  FIND(verdict, error);
  FIND(response, status);
  FIND(response, body);
  FIND(response, content_type);
  FIND(response, headers);
  FIND(response, note);
  Py_RETURN_NONE;
}

static PyMethodDef functions[] = {{"attach", attach, METH_VARARGS, NULL}, {NULL, NULL, 0, NULL}};

static int intern(PyObject **place, const char *text) {
  *place = PyUnicode_InternFromString(text);
  return *place == NULL ? -1 : 0;
}

static int execute(PyObject *module) {
  if (intern(&s_receive, "receive") < 0 || intern(&s_respond, "respond") < 0 || intern(&s_fail, "fail") < 0 ||
      intern(&s_generation, "generation") < 0 || intern(&s_name, "name") < 0 || intern(&s_saw, "saw") < 0 ||
      intern(&s_start, "start") < 0 || intern(&s_advance, "advance") < 0)
    return -1;
  if (sight_ready(module) < 0) return -1;
  if (PyModule_AddType(module, &hub_type) < 0 || PyModule_AddType(module, &wire_type) < 0) return -1;
  return PyModule_AddType(module, &reply_type);
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, execute}, {0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "wire", "The way of most requests of HTTP/1.1.", 0, functions, slots, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_wire(void) { return PyModuleDef_Init(&definition); }
