/* Trees as flat tables of nodes. */
#include "kernels.h"

int trees_register(PyObject *module) { return module == NULL ? -1 : 0; }
