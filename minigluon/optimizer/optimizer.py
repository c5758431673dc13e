"""Step against the gradient, remember where you were heading, and mind the shape of the valley."""

# Written from chapters/70_sgd.ipynb, chapters/70c_optimizers.ipynb, chapters/70w_states.ipynb: edit the chapter, then run `minigluon export`.

import math
import os
import warnings
from operator import attrgetter, is_
from sys import getrefcount
from weakref import WeakKeyDictionary

import numpy as np

import minigluon.ndarray.ndarray as plain
from minigluon.autograd import Leaf, state, writable
from minigluon.base import unexpected
from minigluon.cores import LONG
from minigluon.ndarray import random
from minigluon.ndarray.ndarray import NDArray
from minigluon.ndarray.utils import file_chunks, zeros
from minigluon.ops.optimizer import (
    WHOLE,
    adadelta_step,
    adagrad_step,
    adam_step,
    adamax_step,
    adamw_step,
    dcasgd_step,
    ftml_step,
    ftrl_step,
    in_a_row,
    lamb_step,
    lars_step,
    momentum_step,
    nadam_step,
    nesterov_step,
    rmsprop_centered_step,
    rmsprop_step,
    run,
    run_flat,
    sgd_step,
    sign_momentum_step,
    sign_step,
)
from minigluon.states import dump_states, take_states

__all__ = [
    "AdaDelta",
    "AdaGrad",
    "Adam",
    "AdamW",
    "Adamax",
    "DCASGD",
    "FTML",
    "Ftrl",
    "Known",
    "LAMB",
    "LARS",
    "LBSGD",
    "MINE",
    "NAG",
    "Nadam",
    "Optimizer",
    "RMSProp",
    "SGD",
    "SGLD",
    "Signum",
    "Stepper",
    "Test",
    "Updater",
    "ccSGD",
    "create",
    "free",
    "gather",
    "get_updater",
    "known",
    "mine",
    "movable",
    "moved",
    "node_of",
    "parts_of",
    "raw",
    "raw_of",
    "register",
    "row_by_row",
]


# --- The optimizer --------------------------------------------------------------------------------


class Optimizer:
    """The base class of optimizers: learning rate, weight decay, multipliers and counts.

    `rescale_grad` multiplies each gradient, `clip_gradient` bounds its numbers afterwards; `wd` is the
    weight decay; `lr_scheduler(num_update)` gives the learning rate if there is one. Parameters have
    numbers: `param_idx2name` gives names to them, `param_dict` the parameters with their multipliers.
    """

    opt_registry = {}  # name in small letters -> class

    def __init__(
        self,
        rescale_grad=1.0,
        param_idx2name=None,
        wd=0.0,
        clip_gradient=None,
        learning_rate=None,
        lr_scheduler=None,
        sym=None,
        begin_num_update=0,
        multi_precision=False,
        param_dict=None,
        **unknown,
    ):
        for name in unknown:
            raise unexpected(type(self), name)
        self.rescale_grad, self.wd, self.clip_gradient = rescale_grad, wd, clip_gradient
        self.lr = 0.01 if learning_rate is None and lr_scheduler is None else learning_rate
        self.lr_scheduler = lr_scheduler
        if None not in (lr_scheduler, learning_rate) and lr_scheduler.base_lr != learning_rate:
            print(UserWarning("learning rate from ``lr_scheduler`` has been overwritten by it"))
            lr_scheduler.base_lr = learning_rate
        self.begin_num_update = self.num_update = begin_num_update
        self._all_index_update_counts = {0: {}}  # number of the device -> {parameter: updates}
        self._index_update_count = self._all_index_update_counts[0]
        self.multi_precision, self.aggregate_num = multi_precision, 0
        names = {} if param_idx2name is None else param_idx2name
        assert isinstance(names, dict), "param_idx2name should be a dict of param indexes to names."
        self.idx2name, self.param_dict = dict(names), param_dict or {}
        self.sym_info = () if sym is None else (sym.attr_dict(), sym.list_arguments())
        self.set_lr_mult({})
        self.set_wd_mult({})

    # Optimizers by name.

    @staticmethod
    def register(klass):
        """Class decorator: let `create` find an optimizer by its class name in small letters."""
        assert isinstance(klass, type), f"register is for classes, not for {klass!r}"
        name, known = klass.__name__.lower(), Optimizer.opt_registry
        if name in known and known[name].__module__ != klass.__module__:
            warnings.warn(
                f"WARNING: New optimizer {klass.__module__}.{klass.__name__} is overriding "
                f"existing optimizer {known[name].__module__}.{known[name].__name__}",
                stacklevel=2,
            )
        known[name] = klass
        return klass

    @staticmethod
    def create_optimizer(name, **kwargs):
        """An optimizer by name, such as 'sgd'; ValueError for an unknown one."""
        known = Optimizer.opt_registry
        if name.lower() not in known:
            raise ValueError(f"Cannot find optimizer {name}; known are {', '.join(sorted(known))}")
        return known[name.lower()](**kwargs)

    # --- The optimizer ----------------------------------------------------------------------------

    @property
    def learning_rate(self):
        """The learning rate now, before the parameters' multipliers."""
        return self.lr if self.lr_scheduler is None else self.lr_scheduler(self.num_update)

    def set_learning_rate(self, lr):
        """Set the learning rate; UserWarning is raised if a schedule decides."""
        if self.lr_scheduler is not None:
            raise UserWarning(
                "LRScheduler of the optimizer has already been defined: it decides on the learning "
                "rate, and set_learning_rate is for optimizers without one"
            )
        self.lr = lr

    def set_lr_scale(self, args_lrscale):
        """Not used any more: DeprecationWarning is raised; see `set_lr_mult`."""
        raise DeprecationWarning("set_lr_scale: use set_lr_mult")

    def set_lr_mult(self, args_lr_mult):
        """Multiply the learning rates of parameters, given by number or name."""
        self.lr_mult = {**self._attributes("__lr_mult__"), **args_lr_mult}

    def set_wd_mult(self, args_wd_mult):
        """Multiply the weight decays of parameters, given by number or name.

        Of those with a known name only weights and gammas decay by default.
        """
        free = [n for n in self.idx2name.values() if not n.endswith(self._decaying)]
        self.wd_mult = dict.fromkeys(free, 0.0)
        self.wd_mult.update({**self._attributes("__wd_mult__"), **args_wd_mult})

    _decaying = ("_weight", "_gamma")

    def _attributes(self, key):
        """What the symbol's variables say themselves."""
        if not self.sym_info:
            return {}
        attributes, names = self.sym_info
        return {n: float(attributes[n][key]) for n in names if key in attributes.get(n, {})}

    def _multiplier(self, kind, index):
        if index in self.param_dict:
            return getattr(self.param_dict[index], kind)
        given = getattr(self, kind)
        return given[index] if index in given else given.get(self.idx2name.get(index), 1.0)

    def _set_current_context(self, device_id):
        """Count the updates of this device from now on: each has its own."""
        self._index_update_count = self._all_index_update_counts.setdefault(device_id, {})

    def _update_count(self, index):
        counts = self._index_update_count
        for i in index if isinstance(index, list | tuple) else (index,):
            count = counts[i] = counts.get(i, self.begin_num_update) + 1
            if count > self.num_update:
                self.num_update = count

    def _get_lrs(self, indices):
        lr = self.learning_rate
        if not self.param_dict and not self.lr_mult:
            return [lr] * len(indices)
        own = self.param_dict  # asked without a call for each parameter
        return [
            lr * (own[i].lr_mult if i in own else self._multiplier("lr_mult", i)) for i in indices
        ]

    def _get_wds(self, indices):
        if not self.wd:  # as for most: 0 times whatever a parameter asks for
            return [0.0] * len(indices)
        return [self.wd * self._multiplier("wd_mult", i) for i in indices]

    def _get_lr(self, index):
        return self._get_lrs([index])[0]

    def _get_wd(self, index):
        return self._get_wds([index])[0]

    def __getstate__(self):
        return {k: v for k, v in vars(self).items() if k != "param_dict"}

    def __setstate__(self, state):
        vars(self).update(state)
        self.param_dict = {}
        self._set_current_context(0)

    def create_state(self, index, weight):
        """What the optimizer remembers of a parameter between updates; None for nothing."""

    def update(self, index, weight, grad, state):
        """Change `weight` by its gradient: to be overridden."""
        raise NotImplementedError(f"{type(self).__name__} does not define update(...)")

    def create_state_multi_precision(self, index, weight):
        """The state of a parameter; with `multi_precision` for float16 a float32 copy as well."""
        if weight.dtype == np.float16 and self.multi_precision:
            exact = weight.astype(np.float32)
            both = exact, self.create_state(index, exact)
            return both if self._exact_first else both[::-1]
        if weight.dtype == np.float16:
            warnings.warn(
                "Accumulating with float16 in optimizer can lead to poor accuracy or slow "
                "convergence. Consider using multi_precision=True option of the optimizer",
                stacklevel=2,
            )
        return self.create_state(index, weight)

    _exact_first = True

    def update_multi_precision(self, index, weight, grad, state):
        """Update a parameter, or lists of them; float16 by its float32 copy if there is one."""
        many = isinstance(index, list | tuple)
        if many and not self.aggregate_num:
            for one in zip(index, weight, grad, state):
                self.update_multi_precision(*one)
        elif not self._exact(weight[0] if many else weight):
            self.update(index, weight, grad, state)
        elif many:
            self._update_exact(index, weight, grad, state)
        else:
            self._update_exact([index], [weight], [grad], [state])

    def _update_exact(self, index, weight, grad, state):
        """Update the float32 copies of weights, one or, if this optimizer can, many together."""
        exact, own = zip(*(s if self._exact_first else s[::-1] for s in state))
        grad = [g.astype(np.float32) for g in grad]
        if len(index) > 1:
            self.update(index, list(exact), grad, list(own))
        else:
            self.update(index[0], exact[0], grad[0], own[0])
        for w, e in zip(weight, exact):
            writable(w)[...] = e._data

    def _exact(self, weight):
        return self.multi_precision and weight.dtype == np.float16


register, create = Optimizer.register, Optimizer.create_optimizer


class Stepper(Optimizer):
    """An optimizer whose update is one formula for every number, as `_formula` tells."""

    lazy_update = False  # whether row-sparse gradients update their rows only
    _sparse_states = False  # whether states are row-sparse where the weight is, lazy or not
    # whether a formula asks of a parameter its rates, its count and whether it has a state
    _alike = True

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        own = type(self).update is Stepper.update
        if own and type(self).update_multi_precision is Optimizer.update_multi_precision:
            self.aggregate_num = int(os.getenv("MXNET_OPTIMIZER_AGGREGATION_SIZE", "1000"))

    def _formula(self, index, state, settings):
        """The step of a parameter and its settings; `settings` are those that all steps have."""
        raise NotImplementedError(f"{type(self).__name__} does not define a formula")

    def _settings(self, lr, wd):
        return {
            "lr": float(lr),
            "wd": float(wd),
            "rescale_grad": float(self.rescale_grad),
            "clip_gradient": self.clip_gradient or None,
        }

    # --- The optimizer ----------------------------------------------------------------------------

    def _rates(self, index):
        """Learning rates and weight decays of parameters, each from the method that a subclass has,
        if it has one.
        """
        own = type(self)
        lrs = own._get_lr is not Optimizer._get_lr and [self._get_lr(i) for i in index]
        wds = own._get_wd is not Optimizer._get_wd and [self._get_wd(i) for i in index]
        return lrs or self._get_lrs(index), wds or self._get_wds(index)

    def _steps(self, index, states):
        """The step and its settings for each parameter."""
        (lrs, wds), made = self._rates(index), {}
        likes = index
        if self._alike:
            none = [s is None for s in states]
            likes = [*zip(lrs, wds, map(self._index_update_count.get, index), none)]
            if likes and likes.count(likes[0]) == len(likes):  # most parameters are alike
                return [self._formula(index[0], states[0], self._settings(lrs[0], wds[0]))] * len(
                    likes
                )
        for like, i, s, lr, wd in zip(likes, index, states, lrs, wds):
            if like not in made:
                made[like] = self._formula(i, s, self._settings(lr, wd))
        return [made[like] for like in likes]

    def update(self, index, weight, grad, state):
        """Change a weight and its state in place; or a list of them."""
        if not isinstance(index, list | tuple):
            index, weight, grad, state = [index], [weight], [grad], [state]
        self._update_count(index)
        steps = self._steps(index, state)
        if len(index) > 1 and self._again(steps, weight, grad, state):
            return
        jobs = []
        for (step, settings), w, g, s in zip(steps, weight, grad, state):
            g = g._data if g.stype == "default" or self._lazy(w) else g._data.dense()
            jobs.append((step, (writable(w), g, *raw(s)), settings))
        run(jobs)

    def _lazy(self, weight):
        """Whether row-sparse gradients of this weight update their rows only."""
        return self.lazy_update

    def _zeros(self, weight, count=1):
        """Zeros like a weight: sparse where it is."""
        stype = weight.stype if self.lazy_update or self._sparse_states else "default"
        made = [zeros(weight.shape, weight.context, weight.dtype, stype) for _ in range(count)]
        return made[0] if count == 1 else tuple(made)

    def _again(self, steps, weight, grad, states):
        """Make steps on arrays that are known, or get to know them for the next time;
        whether they are made.
        """
        found, key = known.setdefault(self, {}), (len(weight), id(weight[0]))
        if key in found and found[key].same(weight, states):
            jobs = found[key].jobs(steps, grad)
            if jobs is not None:
                run_flat(jobs)
                return True
        if len(found) > 16:  # other parameters than before, again and again
            found.clear()
        found.pop(key, None)
        if (
            self._alike
            and WHOLE.isdisjoint([step for step, _ in steps])
            and row_by_row(weight, states)
        ):
            found[key] = Known(weight, states)
            gather(found[key], grad)
        return False


def raw(state):
    """The raw arrays of a state: None, one array or several."""
    return tuple([s._data for s in parts_of(state)])


def parts_of(state):
    """The arrays of a state."""
    if state is None or isinstance(state, NDArray):
        return () if state is None else (state,)
    return [s for s in state if s is not None]


class Known:
    """Weights and states of an update that were looked at before, and their flat arrays."""

    def __init__(self, weight, states):
        self.weight, self.states = [*weight], [*states]
        self.held = [*weight, *(s for state in states for s in parts_of(state))]
        self.look()
        # numbers of parameters that live together, their memory
        self.together, self.pieces = [], []

    def look(self):
        """Note where the numbers are."""
        self.raw = [*map(raw_of, self.held)]
        arrays = [(w._data, *raw(s)) for w, s in zip(self.weight, self.states)]
        self.flat = [[a.reshape(-1) for a in some] for some in arrays]

    def same(self, weight, states):
        """Whether weights and states are these, and free to be written to."""
        return (
            len(weight) == len(self.weight)
            and all(map(is_, weight, self.weight))
            and all(map(is_, states, self.states))
            and all(map(is_, map(raw_of, self.held), self.raw))
            and free(weight)
        )

    def jobs(self, steps, grad):
        """The updates by these gradients as jobs of flat arrays;
        None if one of them is of another form.
        """
        found, alone = [], range(len(grad))
        if self.together and self.stays(steps, grad):
            step, settings = steps[self.together[0]]
            found, alone = [(step, piece, settings) for piece in self.pieces], self.others
        for i in alone:
            g, w = grad[i]._data, self.raw[i]
            if type(g) is not np.ndarray or g.shape != w.shape or not g.flags.c_contiguous:
                return None
            flat, *more = self.flat[i]
            found.append((steps[i][0], (flat, g.reshape(-1), *more), steps[i][1]))
        return found

    def stays(self, steps, grad):
        """Whether gradients still live together, and the same step is to be made on all."""
        first = steps[self.together[0]]
        now = [grad[i]._data for i in self.together]
        return all(map(is_, now, self.grads)) and all(steps[i] is first for i in self.together)


def gather(known, grad):
    """Let the small parameters of a `Known`, their gradients and states, live together,
    where nobody minds.
    """
    small = [i for i, w in enumerate(known.weight) if w.size < LONG]
    columns = [[known.weight[i], grad[i], *parts_of(known.states[i])] for i in small]
    arrays = [a for column in columns for a in column]
    known.raw = known.flat = None  # which refer to arrays as well
    kinds = {(len(column), *(a._data.dtype for a in column)) for column in columns}
    different = len({*map(id, arrays)}) == len(arrays)
    if len(small) > 1 and len(kinds) == 1 and different and all(map(movable, arrays)):
        known.together = small
        known.pieces = [*zip(*[moved(row) for row in zip(*columns)])]
        known.grads = [grad[i]._data for i in small]
    known.others = [i for i in range(len(known.weight)) if i not in {*known.together}]
    known.look()


def movable(x):
    """Whether nothing but `x` refers to its array, which is NumPy's and owns its memory."""
    a = x._data
    return (
        type(x) is NDArray and type(a) is np.ndarray and a.base is None and getrefcount(a) == MINE
    )


def mine():
    """How many references `movable` counts to an array that one NDArray holds."""
    x = NDArray(np.zeros(1), None)
    a = x._data
    return getrefcount(a)


MINE = mine()


def moved(arrays):
    """Let arrays become views of one piece of memory; it is returned in parts that are short as well.

    A step treats long arrays in another way than short ones, to the last bit.
    """
    memory, begin = np.empty(sum(a.size for a in arrays), arrays[0]._data.dtype), 0
    for x in arrays:
        view = memory[begin : begin + x.size].reshape(x.shape)
        view[...] = x._data
        x._data, begin = view, begin + x.size
    return [memory[i : i + LONG - 1] for i in range(0, len(memory), LONG - 1)]


raw_of, node_of = attrgetter("_data"), attrgetter("_node")
# optimizer -> {number of its first parameter, first weight's id: Known}
known = WeakKeyDictionary()


def free(weight):
    """Whether weights can be written to as they are: see `writable`."""
    return not state.recording and {*map(type, map(node_of, weight))} <= {Leaf, type(None)}


def row_by_row(weight, states):
    """Whether weights and states are NumPy's and dense, their numbers in a row,
    and no GPU may be fetching them.
    """
    arrays = [*weight, *(s for state in states for s in parts_of(state))]
    return in_a_row(map(raw_of, arrays)) and all(w._ctx.device_typeid != 3 for w in weight)


@register
class SGD(Stepper):
    """Gradient descent, with `momentum` if it is not 0. Polyak, 1964.

    With `lazy_update`, a row-sparse gradient changes the rows that it stores, and no others.
    """

    _exact_first = False

    def __init__(self, momentum=0.0, lazy_update=True, **kwargs):
        super().__init__(**kwargs)
        self.momentum, self.lazy_update = momentum, lazy_update

    def create_state(self, index, weight):
        """The velocity: zeros at first."""
        return self._zeros(weight) if self.momentum else None

    def _formula(self, index, state, settings):
        if state is None:
            return sgd_step, settings
        return momentum_step, {**settings, "momentum": self.momentum}


class Updater:
    """Applies an optimizer to parameters by number, and keeps their states."""

    def __init__(self, optimizer):
        self.optimizer, self.states, self.states_synced = optimizer, {}, {}
        self.aggregate_updates = optimizer.aggregate_num > 0

    def __call__(self, index, grad, weight):
        """Update `weight`, one or a list; the first time its state is made."""
        if not isinstance(index, list | tuple):
            index, grad, weight = [index], [grad], [weight]
        if weight:
            self.optimizer._set_current_context(weight[0]._ctx.device_id)
        index = [i.decode() if type(i) is bytes else i for i in index]
        if not all(map(self.states_synced.get, index)):
            for i, w in zip(index, weight):
                if not self.states_synced.get(i):
                    self._make_ready(i, w)
        if self.aggregate_updates and len(index) > 1:
            self._together(index, grad, weight)
        else:
            for i, g, w in zip(index, grad, weight):
                self.optimizer.update_multi_precision(i, w, g, self.states[i])

    def _make_ready(self, index, weight):
        """Make the state of a parameter, or bring a state that was read to where the weight is."""
        if index not in self.states:
            self.states[index] = self.optimizer.create_state_multi_precision(index, weight)
        else:
            self.states[index] = self.sync_state_context(self.states[index], weight.context)
        self.states_synced[index] = True

    def _together(self, index, grad, weight):
        number, by_type = self.optimizer.aggregate_num, {}
        if len(index) <= number and len({w._data.dtype for w in weight}) == 1:
            states = [self.states[i] for i in index]
            self.optimizer.update_multi_precision(index, weight, grad, states)
            return
        for i, g, w in zip(index, grad, weight):
            by_type.setdefault(w.dtype, []).append((i, w, g, self.states[i]))
        for group in by_type.values():
            for at in range(0, len(group), number):
                lists = map(list, zip(*group[at : at + number]))
                self.optimizer.update_multi_precision(*lists)

    # --- The optimizer ----------------------------------------------------------------------------

    def sync_state_context(self, state, context):
        """The same state, on `context`."""
        if isinstance(state, NDArray):
            return state.as_in_context(context)
        if isinstance(state, list | tuple):
            return type(state)(self.sync_state_context(s, context) for s in state)
        return state

    # --- The file ---------------------------------------------------------------------------------

    def set_states(self, states):
        """Take the states, and the optimizer's numbers if they are there, from bytes of `get_states`.

        MXNetError, with nothing changed, for other bytes; a pickle is refused.
        """
        take_states(states, "what was given", [self])

    def get_states(self, dump_optimizer=False):
        """The states as bytes; with the optimizer's numbers if `dump_optimizer`."""
        return b"".join(map(bytes, file_chunks(*dump_states([self], dump_optimizer))))


def get_updater(optimizer):
    """An `Updater` of an optimizer."""
    return Updater(optimizer)


# --- Optimizers -----------------------------------------------------------------------------------


@register
class NAG(Stepper):
    """Nesterov's accelerated gradient. Nesterov, 1983."""

    _exact_first = False

    def __init__(self, momentum=0.0, **kwargs):
        super().__init__(**kwargs)
        self.momentum = momentum

    def create_state(self, index, weight):
        return self._zeros(weight) if self.momentum else None

    def _lazy(self, weight):
        return not self.momentum

    def _formula(self, index, state, settings):
        if state is None:
            return sgd_step, settings
        return nesterov_step, {**settings, "momentum": self.momentum}


@register
class Signum(Stepper):
    """The sign of the momentum, or of the gradient if that is 0. Bernstein et al., 2018."""

    _sparse_states = True

    def __init__(self, learning_rate=0.01, momentum=0.9, wd_lh=0.0, **kwargs):
        super().__init__(learning_rate=learning_rate, **kwargs)
        self.momentum, self.wd_lh = momentum, wd_lh

    def create_state(self, index, weight):
        return self._zeros(weight) if self.momentum else None

    def _formula(self, index, state, settings):
        if state is None:
            return sign_step, settings
        return sign_momentum_step, {**settings, "momentum": self.momentum, "wd_lh": self.wd_lh}


@register
class DCASGD(Stepper):
    """SGD with a compensation for gradients that come late. Zheng et al., 2016."""

    def __init__(self, momentum=0.0, lamda=0.04, **kwargs):
        super().__init__(**kwargs)
        self.momentum, self.lamda = momentum, lamda
        self.weight_previous = {}

    def create_state(self, index, weight):
        return (self._zeros(weight), weight.copy()) if self.momentum else (None, weight.copy())

    def _formula(self, index, state, settings):
        more = {"momentum": self.momentum, "lamda": self.lamda}
        return dcasgd_step, {**settings, **more, "clip_gradient": self.clip_gradient}


@register
class Adam(Stepper):
    """Running means of gradients and their squares, both corrected. Kingma and Ba, 2015.

    With `lazy_update`, a row-sparse gradient changes the rows that it stores, and no others.
    """

    def __init__(
        self,
        learning_rate=0.001,
        beta1=0.9,
        beta2=0.999,
        epsilon=1e-8,
        lazy_update=True,
        **kwargs,
    ):
        super().__init__(learning_rate=learning_rate, **kwargs)
        self.beta1, self.beta2, self.epsilon = beta1, beta2, epsilon
        self.lazy_update = lazy_update

    def create_state(self, index, weight):
        return self._zeros(weight, 2)

    def _formula(self, index, state, settings):
        t = self._index_update_count[index]
        settings["lr"] *= math.sqrt(1 - self.beta2**t) / (1 - self.beta1**t)
        more = {"beta1": self.beta1, "beta2": self.beta2, "epsilon": self.epsilon}
        return adam_step, {**settings, **more}


@register
class AdamW(Adam):
    """Adam whose decay is no part of the gradient: `w' = w - lr wd w - …`. Loshchilov and Hutter, 2019.

    Without `correct_bias` the running means stay as small as they are at first.
    """

    def __init__(self, learning_rate=0.001, epsilon=1e-6, correct_bias=True, **kwargs):
        super().__init__(learning_rate=learning_rate, epsilon=epsilon, **kwargs)
        self.correct_bias = correct_bias

    def _formula(self, index, state, settings):
        lr, wd = settings["lr"], settings.pop("wd")
        _, settings = super()._formula(index, state, settings)
        if not self.correct_bias:
            settings["lr"] = lr
        return adamw_step, {**settings, "decay": lr * wd}


@register
class AdaGrad(Stepper):
    """Steps divided by the root of all squares so far. Duchi, Hazan and Singer, 2011."""

    lazy_update = True

    def __init__(self, eps=1e-7, **kwargs):
        super().__init__(**kwargs)
        self.float_stable_eps = eps

    def create_state(self, index, weight):
        return self._zeros(weight)

    def _formula(self, index, state, settings):
        return adagrad_step, {
            **settings,
            "epsilon": self.float_stable_eps,
            "clip_gradient": self.clip_gradient,
        }


@register
class RMSProp(Stepper):
    """Steps divided by the root of a running mean of squares; Tieleman and Hinton, 2012.

    `centered`: by the variance, with momentum `gamma2`; Graves, 2013.
    """

    _sparse_states = True

    def __init__(
        self,
        learning_rate=0.001,
        gamma1=0.9,
        gamma2=0.9,
        epsilon=1e-8,
        centered=False,
        clip_weights=None,
        **kwargs,
    ):
        super().__init__(learning_rate=learning_rate, **kwargs)
        self.gamma1, self.gamma2, self.epsilon = gamma1, gamma2, epsilon
        self.centered, self.clip_weights = centered, clip_weights

    def create_state(self, index, weight):
        return self._zeros(weight, 3) if self.centered else (self._zeros(weight),)

    def _formula(self, index, state, settings):
        settings["clip_weights"] = self.clip_weights or None
        settings |= {"gamma1": self.gamma1, "epsilon": self.epsilon}
        if not self.centered:
            return rmsprop_step, settings
        return rmsprop_centered_step, {**settings, "gamma2": self.gamma2}


@register
class AdaDelta(Stepper):
    """Steps of the running size of former steps; no learning rate. Zeiler, 2012."""

    def __init__(self, rho=0.9, epsilon=1e-5, **kwargs):
        super().__init__(**kwargs)
        self.rho, self.epsilon = rho, epsilon

    def create_state(self, index, weight):
        return self._zeros(weight, 2)

    def _formula(self, index, state, settings):
        more = {"rho": self.rho, "epsilon": self.epsilon}
        return adadelta_step, {**settings, **more, "clip_gradient": self.clip_gradient}


@register
class Ftrl(Stepper):
    """Follow the regularized leader; `lamda1` is the L1 penalty. McMahan et al., 2013."""

    lazy_update = True

    def __init__(self, lamda1=0.01, learning_rate=0.1, beta=1, **kwargs):
        super().__init__(**kwargs)
        self.lamda1, self.beta, self.lr = lamda1, beta, learning_rate

    def create_state(self, index, weight):
        return self._zeros(weight, 2)

    def _lazy(self, weight):
        return weight.stype == "row_sparse"

    def _formula(self, index, state, settings):
        return ftrl_step, {**settings, "lamda1": self.lamda1, "beta": self.beta}


@register
class FTML(Stepper):
    """Follow the moving leader. Zheng and Kwok, 2017."""

    def __init__(self, beta1=0.6, beta2=0.999, epsilon=1e-8, **kwargs):
        super().__init__(**kwargs)
        self.beta1, self.beta2, self.epsilon = beta1, beta2, epsilon

    def create_state(self, index, weight):
        return self._zeros(weight, 3)

    def _formula(self, index, state, settings):
        if settings["lr"] == 0:
            raise ValueError("FTML divides by the learning rate, which is 0: warm up from above 0")
        settings["clip_grad"] = settings.pop("clip_gradient")
        more = {"beta1": self.beta1, "beta2": self.beta2, "epsilon": self.epsilon}
        return ftml_step, {**settings, **more, "t": self._index_update_count[index]}


@register
class Adamax(Stepper):
    """Adam by the largest gradient so far, slowly forgotten. Kingma and Ba, 2015."""

    def __init__(self, learning_rate=0.002, beta1=0.9, beta2=0.999, **kwargs):
        super().__init__(learning_rate=learning_rate, **kwargs)
        self.beta1, self.beta2 = beta1, beta2

    def create_state(self, index, weight):
        return self._zeros(weight, 2)

    def _formula(self, index, state, settings):
        settings["lr"] /= 1 - self.beta1 ** self._index_update_count[index]
        more = {"beta1": self.beta1, "beta2": self.beta2, "clip_gradient": self.clip_gradient}
        return adamax_step, {**settings, **more}


@register
class Nadam(Stepper):
    """Adam with Nesterov's momentum, which grows with time. Dozat, 2016."""

    _alike = False  # the product of all momenta grows with each parameter

    def __init__(
        self,
        learning_rate=0.001,
        beta1=0.9,
        beta2=0.999,
        epsilon=1e-8,
        schedule_decay=0.004,
        **kwargs,
    ):
        super().__init__(learning_rate=learning_rate, **kwargs)
        self.beta1, self.beta2, self.epsilon = beta1, beta2, epsilon
        self.schedule_decay, self.m_schedule = schedule_decay, 1.0

    def create_state(self, index, weight):
        return self._zeros(weight, 2)

    def _formula(self, index, state, settings):
        t = self._index_update_count[index]
        now, after = (self._momentum(s) for s in (t, t + 1))
        self.m_schedule *= now
        more = {"beta1": self.beta1, "beta2": self.beta2, "epsilon": self.epsilon, "t": t}
        more |= {"now": now, "after": after, "product": self.m_schedule}
        return nadam_step, {**settings, **more, "clip_gradient": self.clip_gradient}

    def _momentum(self, t):
        return self.beta1 * (1 - 0.5 * 0.96 ** (t * self.schedule_decay))


@register
class LAMB(Stepper):
    """Adam's step, scaled for each layer to the norm of its weight. You et al., 2020."""

    _sparse_states = True

    def __init__(
        self,
        learning_rate=0.001,
        beta1=0.9,
        beta2=0.999,
        epsilon=1e-6,
        lower_bound=None,
        upper_bound=None,
        bias_correction=True,
        **kwargs,
    ):
        super().__init__(learning_rate=learning_rate, **kwargs)
        self.beta1, self.beta2, self.epsilon = beta1, beta2, epsilon
        self.lower_bound, self.upper_bound = lower_bound, upper_bound
        self.bias_correction = bias_correction

    def create_state(self, index, weight):
        return self._zeros(weight, 2)

    def _formula(self, index, state, settings):
        names = "beta1 beta2 epsilon lower_bound upper_bound bias_correction"
        more = {name: getattr(self, name) for name in names.split()}
        return lamb_step, {**settings, **more, "t": self._index_update_count[index]}


@register
class LARS(Stepper):
    """SGD with momentum; each weight's rate is scaled by its trust ratio. You et al., 2017.

    Parameters whose names end in gamma, beta or bias have none. If a schedule changes the rate, the
    momentum is changed in proportion (`momentum_correction`; Goyal et al., 2017).
    """

    _exact_first, _sparse_states = False, True
    _decaying = "_weight"
    _alike = False  # its name counts

    def __init__(
        self,
        momentum=0.0,
        lazy_update=True,
        eta=0.001,
        eps=0,
        momentum_correction=True,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.momentum, self.lazy_update, self.eta, self.eps = momentum, lazy_update, eta, eps
        self.momentum_correction, self.last_lr, self.cur_lr = momentum_correction, None, None

    def create_state(self, index, weight):
        return self._zeros(weight) if self.momentum else None

    def _get_lrs(self, indices):
        lr = self.learning_rate
        self.last_lr, self.cur_lr = lr if self.cur_lr is None else self.cur_lr, lr
        return super()._get_lrs(indices)

    def _formula(self, index, state, settings):
        if state is not None:
            correct = self.momentum_correction and self.last_lr != 0
            settings["momentum"] = self.momentum * (self.cur_lr / self.last_lr if correct else 1)
        if self.idx2name.get(index, "").endswith(("gamma", "beta", "bias")):
            return (sgd_step if state is None else momentum_step), settings
        return lars_step, {**settings, "eta": self.eta, "eps": self.eps}


@register
class LBSGD(Optimizer):
    """SGD for large batches: sums `batch_scale` gradients, with a rate that warms up.

    `warmup_strategy` is 'linear', 'power2', 'sqrt', or 'lars' for a trust ratio.
    """

    def __init__(
        self,
        momentum=0.0,
        multi_precision=False,
        warmup_strategy="linear",
        warmup_epochs=5,
        batch_scale=1,
        updates_per_epoch=32,
        begin_epoch=0,
        num_epochs=60,
        **kwargs,
    ):
        super().__init__(multi_precision=multi_precision, **kwargs)
        self.momentum, self.batch_scale = momentum, batch_scale
        self.warmup_strategy, self.warmup_epochs = warmup_strategy, warmup_epochs
        self.updates_per_epoch, self.num_epochs = updates_per_epoch, num_epochs
        self.init_updates = begin_epoch * updates_per_epoch
        self.cumgrads = {}  # parameter -> [number of gradients so far, their sum since the last step]

    def create_state(self, index, weight):
        return weight.zeros_like() if self.momentum else None

    def update(self, index, weight, grad, state):
        lr = self._get_lr(index)  # of the update before, as in MXNet
        self._update_count(index)
        summed = self.cumgrads.setdefault(index, [self.init_updates, 0])
        summed[0] += 1
        summed[1] = grad + summed[1]
        if summed[0] % self.batch_scale == 0:
            self._step(index, weight, summed[1] / self.batch_scale, state, lr, summed[0])
            summed[1] = 0

    def _step(self, index, weight, grad, state, lr, count):
        wd = self._get_wd(index)
        settings = {
            "lr": lr * self._multiple(weight._data, grad._data, wd, count),
            "wd": wd,
            "rescale_grad": self.rescale_grad,
            "clip_gradient": self.clip_gradient or None,
        }
        arrays = (writable(weight), grad._data, *raw(state))
        if state is None:
            return run([(sgd_step, arrays, settings)])
        return run([(momentum_step, arrays, {**settings, "momentum": self.momentum})])

    # --- Optimizers -------------------------------------------------------------------------------

    def _multiple(self, w, g, wd, count):
        """What the rate is multiplied by after `count` gradients."""
        if self.warmup_strategy == "lars":
            w2, g2 = float((w * w).sum()), float((g * g).sum())
            return min(max(math.sqrt(w2 / (g2 + wd * w2 + 1e-18)), 0.01), 100)
        end = self.warmup_epochs * self.updates_per_epoch
        if count >= end:
            return float(self.batch_scale)
        curves = {"linear": lambda t: t, "power2": lambda t: t * t, "sqrt": math.sqrt}
        curve = curves.get(self.warmup_strategy)
        return 1.0 if end <= 1 or curve is None else 1 + (self.batch_scale - 1) * curve(count / end)


@register
class SGLD(Optimizer):
    """Gradient steps with noise: samples from a posterior. Welling and Teh, 2011."""

    def update(self, index, weight, grad, state):
        self._update_count(index)
        lr, wd = self._get_lr(index), self._get_wd(index)
        settings = {"lr": lr / 2, "wd": wd, "rescale_grad": self.rescale_grad}
        arrays = writable(weight), grad._data
        run([(sgd_step, arrays, {**settings, "clip_gradient": self.clip_gradient})], lazy=False)
        weight += random.normal(0, math.sqrt(lr), weight.shape, weight.dtype, weight.context)


@register
class ccSGD(SGD):
    """The old name of SGD."""


@register
class Test(Optimizer):
    """Adds the gradient; for tests."""

    def create_state(self, index, weight):
        return plain.zeros(weight.shape, weight.context)

    def update(self, index, weight, grad, state):
        weight += grad * self.rescale_grad
        state[:] = weight
