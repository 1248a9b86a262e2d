/* The module `kernels`: what the exact engine does for every row. Built for the stable ABI of Python 3.11 on; arrays
 * come in through the buffer protocol, so NumPy is not needed to build it. The types live in the files beside it. */
#include "kernels.h"

static int execute(PyObject *module) {
  if (trees_register(module) < 0) return -1;
  if (columns_register(module) < 0) return -1;
  if (gather_register(module) < 0) return -1;
  if (links_register(module) < 0) return -1;
  return 0;
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, execute}, {0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "kernels", "Kernels of the exact engine.", 0, NULL, slots, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_kernels(void) { return PyModuleDef_Init(&definition); }
