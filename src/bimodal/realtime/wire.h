/* What the files of the module share. */
#ifndef BIMODAL_WIRE_H
#define BIMODAL_WIRE_H
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stddef.h>
#include <stdint.h>
#include <structmember.h>
#include <time.h>

#define AT(object, offset) (*(PyObject **)((char *)(object) + (offset)))

/* time.monotonic(), to the bit. */
static inline int monotonic(double *now) {
#ifdef __linux__
  struct timespec told;
  clock_gettime(CLOCK_MONOTONIC, &told);
  *now = (double)((int64_t)told.tv_sec * 1000000000 + told.tv_nsec) / 1e9;
  return 0;
#else
  static PyObject *clock = NULL;
  if (clock == NULL) {
    PyObject *module = PyImport_ImportModule("time");
    if (module == NULL) return -1;
    clock = PyObject_GetAttrString(module, "monotonic");
    Py_DECREF(module);
    if (clock == NULL) return -1;
  }
  PyObject *told = PyObject_CallNoArgs(clock);
  if (told == NULL) return -1;
  *now = PyFloat_AsDouble(told);
  Py_DECREF(told);
  return *now == -1.0 && PyErr_Occurred() ? -1 : 0;
#endif
}

static inline int is_none(PyObject *object) { return object == NULL || object == Py_None; }

static inline void put(PyObject **place, PyObject *object) {
  PyObject *old = *place;
  Py_XINCREF(object);
  *place = object;
  Py_XDECREF(old);
}

/* Where the instances of a class keep a field that has a slot. */
static inline int find(PyObject *type, const char *name, Py_ssize_t *place) {
  PyObject *found = PyObject_GetAttrString(type, name);
  if (found == NULL) return -1;
  int good = Py_IS_TYPE(found, &PyMemberDescr_Type) && ((PyMemberDescrObject *)found)->d_member->type == T_OBJECT_EX;
  if (good) *place = ((PyMemberDescrObject *)found)->d_member->offset;
  Py_DECREF(found);
  if (!good) PyErr_Format(PyExc_TypeError, "%R has no slot %s", type, name);
  return good ? 0 : -1;
}

/* sight.c */
extern PyTypeObject sight_type;
int sight_ready(PyObject *module);

/* A request that has ended, as `Sight.saw` has it; name and note may be NULL. */
int sight_add(PyObject *sight, PyObject *head, PyObject *peer, double received, long status, long long taken,
              long long sent, PyObject *name, PyObject *note);

#endif
