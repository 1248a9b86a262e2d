/* Links of boosted models: from raw scores to outputs by the C library's own exp and log, which is what XGBoost (in
 * float32) and LightGBM (in float64) call themselves; NumPy's differ in the last bit. */
#include "kernels.h"
#include <math.h>
#include <string.h>

#define ALONE 64 /* fewer numbers are done without letting go of the interpreter's lock */

enum { EXP, LOG, LOGISTIC, SOFTPLUS, FORMULAS };

/* XGBoost keeps the exponent from overflowing; the sum of a softmax is made in float64. */
static float single_of(int formula, float x) {
  if (formula == EXP) return expf(x);
  if (formula == LOG) return logf(x);
  float turned = -x < 88.7f ? -x : 88.7f;
  return 1.0f / (expf(turned) + 1.0f);
}

static double double_of(int formula, double x, double slope) {
  if (formula == EXP) return exp(x);
  if (formula == LOG) return log(x);
  if (formula == SOFTPLUS) return log1p(exp(x));
  return 1.0 / (1.0 + exp(-slope * x));
}

/* `pairs`: each number gives two, 1 - its own and its own. */
static void singles(int formula, const float *raw, float *out, Py_ssize_t count, int pairs) {
  for (Py_ssize_t i = 0; i < count; i++) {
    float value = single_of(formula, raw[i]);
    if (pairs) {
      out[2 * i] = 1.0f - value;
      out[2 * i + 1] = value;
    } else
      out[i] = value;
  }
}

static void doubles(int formula, double slope, const double *raw, double *out, Py_ssize_t count, int pairs) {
  for (Py_ssize_t i = 0; i < count; i++) {
    double value = double_of(formula, raw[i], slope);
    if (pairs) {
      out[2 * i] = 1.0 - value;
      out[2 * i + 1] = value;
    } else
      out[i] = value;
  }
}

static void single_shares(const float *raw, float *out, Py_ssize_t rows, Py_ssize_t width) {
  for (Py_ssize_t i = 0; i < rows; i++, raw += width, out += width) {
    float most = raw[0];
    double sum = 0;
    for (Py_ssize_t k = 1; k < width; k++) most = fmaxf(raw[k], most);
    for (Py_ssize_t k = 0; k < width; k++) {
      out[k] = expf(raw[k] - most);
      sum += out[k];
    }
    for (Py_ssize_t k = 0; k < width; k++) out[k] /= (float)sum;
  }
}

static void double_shares(const double *raw, double *out, Py_ssize_t rows, Py_ssize_t width) {
  for (Py_ssize_t i = 0; i < rows; i++, raw += width, out += width) {
    double most = raw[0], sum = 0;
    for (Py_ssize_t k = 1; k < width; k++) most = raw[k] > most ? raw[k] : most;
    for (Py_ssize_t k = 0; k < width; k++) {
      out[k] = exp(raw[k] - most);
      sum += out[k];
    }
    for (Py_ssize_t k = 0; k < width; k++) out[k] /= sum;
  }
}

/* The buffers of two arrays of the same type, float32 or float64. Returns 0 where they are not. */
static int opened(PyObject *const *args, Py_buffer *raw, Py_buffer *out) {
  if (PyObject_GetBuffer(args[0], raw, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT) < 0) return 0;
  if (PyObject_GetBuffer(args[1], out, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | PyBUF_WRITABLE) < 0) {
    PyBuffer_Release(raw);
    return 0;
  }
  int known = strcmp(raw->format, "f") == 0 || strcmp(raw->format, "d") == 0;
  if (known && strcmp(raw->format, out->format) == 0) return 1;
  PyBuffer_Release(raw);
  PyBuffer_Release(out);
  PyErr_SetString(PyExc_TypeError, "two arrays of float32, or two of float64, are needed");
  return 0;
}

static PyObject *closed(Py_buffer *raw, Py_buffer *out, const char *fault) {
  PyBuffer_Release(raw);
  PyBuffer_Release(out);
  if (fault == NULL) Py_RETURN_NONE;
  PyErr_SetString(PyExc_ValueError, fault);
  return NULL;
}

static PyObject *link_formula(PyObject *module, PyObject *const *args, Py_ssize_t given) {
  (void)module;
  if (given != 4) {
    PyErr_SetString(PyExc_TypeError, "formula(raw, out, formula, slope)");
    return NULL;
  }
  long formula = PyLong_AsLong(args[2]);
  double slope = PyFloat_AsDouble(args[3]);
  if (PyErr_Occurred()) return NULL;
  Py_buffer raw, out;
  if (!opened(args, &raw, &out)) return NULL;
  int single = raw.itemsize == sizeof(float), pairs = out.len == 2 * raw.len;
  Py_ssize_t count = raw.len / raw.itemsize;
  if (!pairs && out.len != raw.len) return closed(&raw, &out, "as many numbers, or twice as many, are needed");
  if (formula < 0 || formula >= FORMULAS || (single && formula == SOFTPLUS))
    return closed(&raw, &out, "a formula of no name");
  PyThreadState *state = count > ALONE ? PyEval_SaveThread() : NULL;
  if (single)
    singles((int)formula, raw.buf, out.buf, count, pairs);
  else
    doubles((int)formula, slope, raw.buf, out.buf, count, pairs);
  if (state != NULL) PyEval_RestoreThread(state);
  return closed(&raw, &out, NULL);
}

static PyObject *link_shares(PyObject *module, PyObject *const *args, Py_ssize_t given) {
  (void)module;
  if (given != 2) {
    PyErr_SetString(PyExc_TypeError, "shares(raw, out)");
    return NULL;
  }
  Py_buffer raw, out;
  if (!opened(args, &raw, &out)) return NULL;
  if (raw.ndim != 2 || out.len != raw.len) return closed(&raw, &out, "two arrays [rows, k] are needed");
  Py_ssize_t rows = raw.shape[0], width = raw.shape[1];
  if (width < 1) return closed(&raw, &out, "no scores");
  PyThreadState *state = rows * width > ALONE ? PyEval_SaveThread() : NULL;
  if (raw.itemsize == sizeof(float))
    single_shares(raw.buf, out.buf, rows, width);
  else
    double_shares(raw.buf, out.buf, rows, width);
  if (state != NULL) PyEval_RestoreThread(state);
  return closed(&raw, &out, NULL);
}

static PyMethodDef functions[] = {
    {"formula", (PyCFunction)(void (*)(void))link_formula, METH_FASTCALL,
     "formula(raw, out, formula, slope): 0 exp, 1 log, 2 1 / (1 + exp(-slope * raw)), 3 log(1 + exp(raw)); an out of "
     "twice the size gets pairs of 1 - value, value. In float32 the slope is 1."},
    {"shares", (PyCFunction)(void (*)(void))link_shares, METH_FASTCALL,
     "shares(raw, out): of scores [rows, k], exp(raw - the row's largest) divided by the row's sum."},
    {NULL, NULL, 0, NULL}};

int links_register(PyObject *module) { return PyModule_AddFunctions(module, functions); }
