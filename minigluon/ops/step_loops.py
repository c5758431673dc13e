"""Between the products of a step every number is touched many times; once is enough."""

# Written from chapters/96j_step_loops.ipynb: edit the chapter, then run `minigluon export`.

from functools import wraps
from math import inf

import numpy as np

from minigluon.cores import LONG
from minigluon.native import Loops
from minigluon.ops.optimizer import adam_step, adamw_step, momentum_step, quicker

__all__ = ["WALKS", "adam", "adamw", "bound", "fit", "in_one_walk", "loops", "momentum", "walk"]


# --- Code: updates in one walk --------------------------------------------------------------------

loops = Loops("steps")
WALKS = {}  # step -> the step that does the same in one walk


def walk(step):
    """Make a function the way of `step` for long flat arrays of single precision, as a decorator."""

    def decorate(function):
        @wraps(step)
        def in_one_walk(*arrays, **settings):
            numbers = all(type(n) in (int, float) or n is None for n in settings.values())
            (function if numbers and all(map(fit, arrays)) else step)(*arrays, **settings)

        WALKS[step] = in_one_walk
        return function

    return decorate


def fit(a):
    """Whether a loop can walk over an array: numbers of single precision, many, in a row, and not for reading only."""
    return type(a) is np.ndarray and a.dtype == np.float32 and a.size >= LONG and a.flags.carray


def bound(clip_gradient):
    """How far from 0 a gradient may be."""
    return inf if clip_gradient is None or clip_gradient < 0 else float(clip_gradient)


@walk(momentum_step)
def momentum(w, g, mom, lr, momentum=0.0, wd=0.0, rescale_grad=1.0, clip_gradient=-1.0):
    """Gradient descent with momentum."""
    rates = lr, momentum, wd, rescale_grad, bound(clip_gradient)
    loops("momentum", w.size, w, g, mom, *map(float, rates))


@walk(adamw_step)
def adamw(
    w,
    g,
    mean,
    var,
    decay,
    lr,
    beta1=0.9,
    beta2=0.999,
    epsilon=1e-8,
    wd=0.0,
    rescale_grad=1.0,
    clip_gradient=-1.0,
):
    """Adam's step from `1 - decay` times the weight."""
    rates = 1 - decay, lr, beta1, 1 - beta1, beta2, 1 - beta2
    more = epsilon, wd, rescale_grad, bound(clip_gradient)
    loops("adam", w.size, w, g, mean, var, *map(float, rates + more))


@walk(adam_step)
def adam(w, g, mean, var, lr, **settings):
    """Adam's step."""
    adamw(w, g, mean, var, 0.0, lr, **settings)


def in_one_walk(jobs):
    """The same jobs, by steps that walk once where there are such, and a compiler."""
    long = [i for i, (step, arrays, _) in enumerate(jobs) if step in WALKS and fit(arrays[0])]
    if not (long and loops):
        return jobs
    jobs = list(jobs)
    for i in long:
        step, arrays, settings = jobs[i]
        jobs[i] = WALKS[step], arrays, settings
    return jobs


quicker.append(in_one_walk)
