/* What the files of the module share. */
#ifndef BIMODAL_KERNELS_H
#define BIMODAL_KERNELS_H
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stddef.h>
#include <stdint.h>

int trees_register(PyObject *module);   /* trees.c: the type Trees */
int columns_register(PyObject *module); /* columns.c: the types and functions for columns and linear models */
int gather_register(PyObject *module);  /* gather.c: the type Gather */
int links_register(PyObject *module);   /* links.c: the formulas of boosted models */

#endif
