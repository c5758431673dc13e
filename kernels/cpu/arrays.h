// How NumPy's arrays describe themselves to functions that are called with Python's lock.
#pragma once
#include "loops.h"

extern "C" {  // of Python itself, which is there when this is loaded
void *PyCapsule_GetPointer(void *, const char *);
void *PyEval_SaveThread();
void PyEval_RestoreThread(void *);
}

// How an array describes itself to C: https://numpy.org/doc/stable/reference/arrays.interface.html
struct Array {
    int two, axes;
    char kind;
    int itemsize, flags;
    intptr_t *shape, *strides;
    char *data;
};
enum { IN_A_ROW = 0x1, ALIGNED = 0x100, NATIVE = 0x200, WRITABLE = 0x400 };

static const Array &told(void *capsule) { return *(const Array *)PyCapsule_GetPointer(capsule, nullptr); }

// Of the last axis, or the one before, and so on.
static size length(const Array &x, int back) { return back <= x.axes ? x.shape[x.axes - back] : 1; }
static size stride(const Array &x, int back) { return back <= x.axes && length(x, back) > 1 ? x.strides[x.axes - back] : 0; }

// Whether an array's numbers are of such a kind, 'f' or 'i', and size, and lie as C has them.
static bool holds(const Array &x, char kind, int itemsize) {
    return x.kind == kind && x.itemsize == itemsize && (x.flags & ALIGNED) && (x.flags & NATIVE);
}

// The same, and all of them lie in a row.
static bool row_of(const Array &x, char kind, int itemsize) { return holds(x, kind, itemsize) && (x.flags & IN_A_ROW); }
