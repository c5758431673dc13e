"""Write the network down first, give it memory second, run it third: the older half of MXNet, on the same graphs and optimizers."""

# Written from chapters/89_module.ipynb: edit the chapter, then run `minigluon export`.

import logging
import warnings

from minigluon import optimizer as opt
from minigluon.context import Context, cpu
from minigluon.executor import Executor
from minigluon.gluon.trainer import create_kvstore
from minigluon.initializer import InitDesc, Uniform
from minigluon.io.io import DataDesc
from minigluon.model import load_checkpoint, save_checkpoint
from minigluon.module.base_module import BaseModule, as_list, described, joined
from minigluon.ndarray.utils import path_of, replace_file
from minigluon.op import BadValue

__all__ = ["Module", "cut", "groups_of", "mean_of", "require_names", "require_one_size"]


# --- One graph ------------------------------------------------------------------------------------


def require_names(symbol, names, what, needed):
    """Raise ValueError, or warn if they are not `needed`, for names that are no arguments of a graph."""
    known = symbol.list_arguments()
    for name in names:
        if name not in known:
            inputs = [n for n in known if not n.endswith(("weight", "bias", "gamma", "beta"))]
            text = (
                f"Module(…, {what}={list(names)}): the symbol has no argument {name!r}; "
                f"its inputs may be {', '.join(inputs)}"
            )
            if needed:
                raise ValueError(text)
            warnings.warn(text, stacklevel=4)


def require_one_size(described, axes):
    """AssertionError for arrays of a batch that do not have as many samples as the others."""
    sizes = {d.name: d.shape[axes[d.name]] for d in described if axes[d.name] >= 0}
    assert len({*sizes.values()}) < 2, f"all data must have the same batch size, not {sizes}"


def groups_of(group2ctxs, number):
    """{ctx_group: device} of the executor of this number, from a list of such
    or {ctx_group: devices}.
    """
    if not isinstance(group2ctxs, dict):
        return group2ctxs[number] if group2ctxs else None
    lists = {k: [v] if isinstance(v, Context) else list(v) for k, v in group2ctxs.items()}
    return {k: v[number % len(v)] for k, v in lists.items()}


def mean_of(arrays):
    """The mean of arrays of several devices, on the CPU."""
    total = arrays[0].copyto(cpu())
    for other in arrays[1:]:
        total += other.copyto(cpu())
    return total / len(arrays) if len(arrays) > 1 else total


class Module(BaseModule):
    """A graph whose arguments, but for the data and the labels, are learnt.

    `context` is one device or several, which share each batch; parameters in `fixed_param_names` stay
    as they are. Raises ValueError for data that the graph does not have.
    """

    def __init__(
        self,
        symbol,
        data_names=("data",),
        label_names=("softmax_label",),
        logger=logging,
        context=None,
        work_load_list=None,
        fixed_param_names=None,
        state_names=None,
        group2ctxs=None,
        compression_params=None,
    ):
        super().__init__(logger)
        self._symbol = symbol
        context = cpu() if context is None else context
        self._context = [context] if isinstance(context, Context) else list(context)
        self._data_names, self._label_names = list(data_names), list(label_names or ())
        self._state_names, self._group2ctxs = list(state_names or ()), group2ctxs
        self._compression_params = compression_params
        self._fixed_param_names = list(fixed_param_names or ())
        require_names(symbol, self._data_names, "data_names", True)
        require_names(symbol, self._label_names, "label_names", False)
        require_names(symbol, self._state_names, "state_names", True)
        require_names(symbol, self._fixed_param_names, "fixed_param_names", True)
        inputs = {*self._data_names, *self._label_names, *self._state_names}
        self._param_names = [n for n in symbol.list_arguments() if n not in inputs]
        self._aux_names = symbol.list_auxiliary_states()
        self._execs, self._optimizer, self._updater, self._kvstore = [], None, None, None
        self._in_store = False  # whether the store takes the optimizer's steps
        self._data_shapes = self._label_shapes = self._preload_opt_states = None
        self._given = None  # parameters that came before memory
        # the parameters on the CPU, and whether those of the devices have moved since
        self._host = {"params": None, "moved": True}

    data_names = property(lambda self: self._data_names, doc="Names of the data.")
    label_names = property(lambda self: self._label_names, doc="Names of the labels.")
    output_names = property(lambda self: self._symbol.list_outputs(), doc="Names of the outputs.")

    @property
    def data_shapes(self):
        """Descriptions of the data of the last batch."""
        assert self.binded, "call bind first"
        return self._data_shapes

    @property
    def label_shapes(self):
        """Descriptions of the labels of the last batch."""
        assert self.binded, "call bind first"
        return self._label_shapes

    # --- One graph --------------------------------------------------------------------------------

    @property
    def output_shapes(self):
        """Pairs of name and shape of the outputs."""
        assert self.binded, "call bind first"
        shapes = dict(self._data_shapes + (self._label_shapes or []))
        known = {n: s for n, s in shapes.items() if n in self._symbol.list_arguments()}
        return list(zip(self.output_names, self._symbol.infer_shape(**known)[1]))

    # --- Memory ---------------------------------------------------------------------------------

    def bind(
        self,
        data_shapes,
        label_shapes=None,
        for_training=True,
        inputs_need_grad=False,
        force_rebind=False,
        shared_module=None,
        grad_req="write",
    ):
        """Make memory for batches of these shapes; with `shared_module` use its parameters
        and optimizer.
        """
        if self.binded and not force_rebind:
            self.logger.warning("Already bound, ignoring bind()")
            return
        assert for_training or not inputs_need_grad, "gradients of inputs need for_training=True"
        old = self._execs if self.params_initialized else []
        self.for_training, self.inputs_need_grad = for_training, inputs_need_grad
        self._grad_req = grad_req
        found = described(data_shapes), described(label_shapes)
        self._require_described(*found)
        if shared_module is not None:
            assert shared_module.binded and shared_module.params_initialized, (
                "the module whose parameters are shared must be bound and initialized"
            )
            old, self._host = shared_module._execs, shared_module._host
            self.params_initialized = True
        self._execs = self._bound(*found, old)
        self.binded = True
        if self._given is not None:
            self._write_params(*self._given)
        if shared_module is not None and shared_module.optimizer_initialized:
            self.borrow_optimizer(shared_module)

    def _require_described(self, data_shapes, label_shapes):
        """Raise ValueError for data of other names; warn for labels of other names."""
        names = [d.name for d in data_shapes]
        if sorted(names) != sorted(self._data_names):
            raise ValueError(f"data_shapes describe {names}, but data_names are {self._data_names}")
        names = [d.name for d in label_shapes or ()]
        if sorted(names) != sorted(self._label_names):
            text = f"label_shapes describe {names}, but label_names are {self._label_names}"
            warnings.warn(text, stacklevel=4)

    def _bound(self, data_shapes, label_shapes, old):
        """An executor a device, which share the parameters of `old` ones."""
        axes = {d.name: d.get_batch_axis(d.layout) for d in data_shapes + (label_shapes or [])}
        require_one_size(data_shapes + (label_shapes or []), axes)
        self._data_shapes, self._label_shapes = data_shapes, label_shapes
        self._sizes = [d.shape for d in data_shapes]
        many = len(self._context)
        for d in data_shapes:
            n = d.shape[axes[d.name]] if axes[d.name] >= 0 else many
            if n < many:
                raise ValueError(f"a batch of {n} for {many} devices: each needs a sample")
            self._batch_size = n
        self._parts = [
            slice(i * self._batch_size // many, (i + 1) * self._batch_size // many)
            for i in range(many)
        ]
        found = []
        for i, (ctx, part) in enumerate(zip(self._context, self._parts)):
            shapes = {}
            for d in data_shapes + (label_shapes or []):
                shape = list(d.shape)
                if axes[d.name] >= 0:
                    shape[axes[d.name]] = part.stop - part.start
                shapes[d.name] = tuple(shape)
            types = {d.name: d.dtype for d in data_shapes + (label_shapes or [])}
            found.append(self._executor(ctx, shapes, types, old[i] if old else None, i))
        self._axes, whole = axes, range(len(self._symbol))
        notes = [self._symbol[i].attr("__layout__") for i in whole]
        self._output_axes = [DataDesc.get_batch_axis(layout) for layout in notes]
        return found

    def _executor(self, ctx, shapes, types, old, number):
        """An executor on a device, with the parameters of another one if there is one."""
        known, groups = self._symbol.list_arguments(), groups_of(self._group2ctxs, number)
        fresh = self._symbol.simple_bind(
            ctx,
            grad_req=self._requests(),
            group2ctx=groups,
            type_dict={n: t for n, t in types.items() if n in known},
            **{n: s for n, s in shapes.items() if n in known},
        )
        if old is None:
            return fresh
        shared = {*self._param_names}

        def taken(own, other):
            return {
                n: other[n] if n in other and (n in shared or n in self._aux_names) else a
                for n, a in own.items()
            }

        args, states = taken(fresh.arg_dict, old.arg_dict), taken(fresh.aux_dict, old.aux_dict)
        for n, a in args.items():
            if n in shared and a.shape != fresh.arg_dict[n].shape:
                raise BadValue(f"parameter {n} has shape {a.shape}, {fresh.arg_dict[n].shape} here")
        grads = taken(fresh.grad_dict, old.grad_dict)
        return Executor(self._symbol, ctx, args, grads, self._requests(), states, groups)

    def _requests(self):
        """{argument: what becomes of its gradient}."""
        found = dict.fromkeys(self._symbol.list_arguments(), "null")
        if self.for_training:
            given = self._grad_req
            if isinstance(given, list | tuple):
                given = dict(zip(self._symbol.list_arguments(), given))
            for n in self._symbol.list_arguments():
                learnt = n in self._param_names and n not in self._fixed_param_names
                if learnt or (self.inputs_need_grad and n in self._data_names):
                    found[n] = given if isinstance(given, str) else given.get(n, "write")
        return found

    def reshape(self, data_shapes, label_shapes=None):
        """Go on with batches of other shapes."""
        assert self.binded, "call bind before reshape"
        self._execs = self._bound(described(data_shapes), described(label_shapes), self._execs)

    # --- Parameters -----------------------------------------------------------------------------

    def init_params(
        self,
        initializer=Uniform(0.01),  # noqa: B008
        arg_params=None,
        aux_params=None,
        allow_missing=False,
        force_init=False,
        allow_extra=False,
    ):
        """Give parameters the arrays of their names, or else let the initializer fill them.

        Raises RuntimeError for one that is in neither, before any is changed.
        """
        if self.params_initialized and not force_init:
            warnings.warn(
                "Parameters already initialized and force_init=False. init_params call ignored.",
                stacklevel=2,
            )
            return
        assert self.binded, "call bind before initializing the parameters"
        given = {"arg": arg_params, "aux": aux_params}
        own = {"arg": self._param_names, "aux": self._aux_names}
        for kind, names in own.items():
            for name in names:
                missing = given[kind] is not None and name not in given[kind]
                if (missing and not allow_missing) or (
                    initializer is None and (missing or given[kind] is None) and not allow_missing
                ):
                    raise RuntimeError(
                        f"{name} is not presented: it is not among the {kind}_params"
                    )
        attributes = self._symbol.attr_dict()
        first = self._execs[0]
        for kind, arrays in (("arg", first.arg_dict), ("aux", first.aux_dict)):
            for name in sorted(own[kind]):
                if given[kind] is not None and name in given[kind]:
                    arrays[name][:] = given[kind][name].astype(arrays[name].dtype)
                elif initializer is not None:
                    initializer(InitDesc(name, attributes.get(name)), arrays[name])
        self._copy_to_other_devices()
        self.params_initialized, self._host["moved"] = True, True
        if self._host["params"] is not None:
            self.get_params()

    def _copy_to_other_devices(self):
        """Make the parameters of all devices, and of a store that updates them, those of the first."""
        first = self._execs[0]
        for other in self._execs[1:]:
            for name in self._param_names:
                first.arg_dict[name].copyto(other.arg_dict[name])
            for name in self._aux_names:
                first.aux_dict[name].copyto(other.aux_dict[name])
        if self._in_store and self.optimizer_initialized:
            for i, name in enumerate(self._param_names):
                first.arg_dict[name].copyto(self._kvstore._stored(i))

    # --- One graph --------------------------------------------------------------------------------

    def set_params(
        self, arg_params, aux_params, allow_missing=False, force_init=True, allow_extra=False
    ):
        """Write arrays into the parameters of their names; ValueError for one that is not here."""
        extra = {*(arg_params or {})} - {*self._symbol.list_arguments()}
        extra |= {*(aux_params or {})} - {*self._aux_names}
        if extra and allow_missing and not allow_extra:
            raise ValueError(f"Find names {sorted(extra)} that are not in the arguments")
        super().set_params(arg_params, aux_params, allow_missing, force_init, allow_extra)

    def _write_params(self, learnt, states):
        """Write the parameters that a checkpoint brought."""
        self._given = None
        self.init_params(None, learnt, states, force_init=True, allow_extra=True)

    def get_params(self):
        """The parameters and the states on the CPU, two dictionaries:
        always the same arrays, written after a step.

        What is written into them reaches the network through `set_params` alone.
        """
        if self._given is not None:
            return self._given
        assert self.binded and self.params_initialized, "call bind and init_params first"
        if self._host["moved"]:
            found, held = self._fetched(), self._host["params"]
            for old, new in zip(held or (), found):
                for name, a in new.items():
                    a.copyto(old[name])
            self._host |= {"params": held or found, "moved": False}
        return self._host["params"]

    def _fetched(self):
        """Copies of the parameters and of the states on the CPU."""
        apart = self.optimizer_initialized and self._kvstore is None  # each device learns by itself
        execs = self._execs if apart else self._execs[:1]
        learnt = {n: mean_of([e.arg_dict[n] for e in execs]) for n in self._param_names}
        # Running statistics differ: each device has seen its part.
        states = {n: mean_of([e.aux_dict[n] for e in self._execs]) for n in self._aux_names}
        return learnt, states

    # --- The optimizer --------------------------------------------------------------------------

    def init_optimizer(
        self,
        kvstore="local",
        optimizer="sgd",
        optimizer_params=(("learning_rate", 0.01),),
        force_init=False,
    ):
        """Choose the optimizer, by name or as an object; by name gradients are a batch's means."""
        assert self.binded and self.params_initialized, "call bind and init_params first"
        if self.optimizer_initialized and not force_init:
            self.logger.warning("optimizer already initialized, ignoring...")
            return
        arrays = {n: self._execs[0].arg_dict[n] for n in self._param_names}
        kvstore, self._in_store = create_kvstore(kvstore, len(self._context), arrays)
        if kvstore is not None and self._compression_params:
            kvstore.set_gradient_compression(self._compression_params)
        workers = kvstore.num_workers if kvstore is not None and "dist" in kvstore.type else 1
        rescale = 1.0 / (self._batch_size * workers)
        if isinstance(optimizer, str):
            settings = {"rescale_grad": rescale, **dict(optimizer_params)}
            optimizer = opt.create(
                optimizer, sym=self._symbol, param_idx2name=self._numbered(), **settings
            )
        elif optimizer.rescale_grad != rescale:
            warnings.warn(
                f"this optimizer has rescale_grad={optimizer.rescale_grad}, so gradients are not means "
                f"over a batch: that would be {rescale}",
                stacklevel=2,
            )
        self._kvstore, self._optimizer = kvstore, optimizer
        if not optimizer.idx2name:
            optimizer.idx2name = self._numbered()
        self._updater = None if self._in_store else opt.get_updater(optimizer)
        if self._in_store:
            kvstore.set_optimizer(optimizer)
        if kvstore is not None:
            for i, name in enumerate(self._param_names):
                kvstore.init(i, self._execs[0].arg_dict[name])
                outs = [e.arg_dict[name] for e in self._execs]
                kvstore.pull(i, outs, ignore_sparse=False)
        self.optimizer_initialized, self._host["moved"] = True, True
        if self._preload_opt_states is not None:
            self.load_optimizer_states(self._preload_opt_states)
            self._preload_opt_states = None

    def _numbered(self):
        """{number: name}; each device counts its own updates, unless the store takes the steps."""
        many = 1 if self._in_store else len(self._context)
        return {i * many + k: n for i, n in enumerate(self._param_names) for k in range(many)}

    def borrow_optimizer(self, shared_module):
        """Update by the optimizer, and with the states, of another module."""
        assert shared_module.optimizer_initialized, "the other module has no optimizer yet"
        self._optimizer, self._updater = shared_module._optimizer, shared_module._updater
        self._kvstore, self._in_store = shared_module._kvstore, shared_module._in_store
        self.optimizer_initialized = True

    # --- One graph --------------------------------------------------------------------------------

    def update(self):
        """Take the optimizer's step; the gradients of all devices, and machines, are added first."""
        assert self.optimizer_initialized, "call init_optimizer first"
        many, in_store, self._host["moved"] = len(self._execs), self._in_store, True
        # of a device, all at once: an optimizer may take them together
        steps = [[] for _ in self._execs]
        for i, name in enumerate(self._param_names):
            grads = [e.grad_dict.get(name) for e in self._execs]
            if grads[0] is None:
                continue
            if self._kvstore is not None:
                self._kvstore.push(i, grads)
                outs = [e.arg_dict[name] for e in self._execs] if in_store else grads
                self._kvstore.pull(i, outs, ignore_sparse=False)
            for k, (e, g) in enumerate(zip(self._execs, grads)):
                steps[k].append((i * many + k, g, e.arg_dict[name]))
        for found in () if in_store else filter(None, steps):
            self._updater(*map(list, zip(*found)))

    def save_optimizer_states(self, fname):
        """Write the optimizer's states to a file."""
        assert self.optimizer_initialized, "call init_optimizer first"
        if self._in_store:
            self._kvstore.save_optimizer_states(fname)
        else:
            replace_file(path_of(fname), [self._updater.get_states()])

    def load_optimizer_states(self, fname):
        """Read the optimizer's states from such a file."""
        assert self.optimizer_initialized, "call init_optimizer first"
        if self._in_store:
            self._kvstore.load_optimizer_states(fname)
            return
        with open(path_of(fname), "rb") as file:
            self._updater.set_states(file.read())

    # --- Running it -------------------------------------------------------------------------------

    def forward(self, data_batch, is_train=None):
        """Run the graph on a batch; in training if the module is bound for it
        and nothing else is said.
        """
        assert self.binded and self.params_initialized, "call bind and init_params first"
        is_train = self.for_training if is_train is None else is_train
        data, label = list(data_batch.data), list(getattr(data_batch, "label", None) or ())
        if [a.shape for a in data] != self._sizes:
            self._fit_to(data, label, data_batch)
        named = dict(zip([d.name for d in self._data_shapes], data))
        if label and self._label_shapes:
            named |= dict(zip([d.name for d in self._label_shapes], label))
        for e, part in zip(self._execs, self._parts):
            own = {n: self._cut(n, a, part) for n, a in named.items() if n in e.arg_dict}
            e.forward(is_train=is_train, **own)

    def _cut(self, name, a, part):
        """The part of an array for one device."""
        axis = self._axes[name]
        if len(self._execs) == 1 or axis < 0:
            return a
        return cut(a, axis, part)

    def _fit_to(self, data, label, batch):
        """Bind anew for a batch of other shapes."""
        shapes = getattr(batch, "provide_data", None) or [
            DataDesc(d.name, a.shape, d.dtype, d.layout) for d, a in zip(self._data_shapes, data)
        ]
        labels = getattr(batch, "provide_label", None) or [
            DataDesc(d.name, a.shape, d.dtype, d.layout)
            for d, a in zip(self._label_shapes or (), label)
        ]
        if not labels and self._label_shapes:  # no label came: it is as long as the data
            n = data[0].shape[0]
            labels = [
                DataDesc(d.name, (n, *d.shape[1:]), d.dtype, d.layout) for d in self._label_shapes
            ]
        self.reshape(shapes, labels)

    def backward(self, out_grads=None):
        """Compute all gradients; `out_grads` are those of the outputs where they are no losses."""
        assert self.binded and self.for_training, "re-bind with for_training=True to run backward"
        grads = None if out_grads is None else as_list(out_grads)
        for e, part in zip(self._execs, self._parts):
            alone = len(self._execs) == 1 or grads is None
            e.backward(
                grads if alone else [cut(g, a, part) for g, a in zip(grads, self._output_axes)]
            )

    def get_outputs(self, merge_multi_context=True):
        """The outputs of the last forward; for each a list by device without `merge_multi_context`."""
        assert self.binded, "call bind first"
        found = [e.outputs for e in self._execs]
        return self._by_device(found, merge_multi_context, self._output_axes)

    def get_input_grads(self, merge_multi_context=True):
        """The gradients of the data after backward, where `inputs_need_grad`."""
        assert self.inputs_need_grad, "bind with inputs_need_grad=True to have them"
        found = [[e.grad_dict.get(n) for n in self._data_names] for e in self._execs]
        return self._by_device(
            found, merge_multi_context, [self._axes[n] for n in self._data_names]
        )

    def _by_device(self, found, merge, axes):
        """For each array its parts, or the whole where the first part lies; None where there is none."""
        by_output = [list(parts) for parts in zip(*found)]
        if not merge:
            return by_output
        return [
            parts[0]
            if parts[0] is None
            else joined([a.as_in_context(parts[0].context) for a in parts], axis)
            for parts, axis in zip(by_output, axes)
        ]

    def get_states(self, merge_multi_context=True):
        """The arguments in `state_names`; for each a list by device without `merge_multi_context`."""
        assert self.binded and self.params_initialized, "call bind and init_params first"
        found = [[e.arg_dict[n] for n in self._state_names] for e in self._execs]
        return self._by_device(found, merge_multi_context, [0] * len(self._state_names))

    def set_states(self, states=None, value=None):
        """Write the states: arrays by device as `get_outputs` gives them, whole arrays,
        or one number.
        """
        assert self.binded and self.params_initialized, "call bind and init_params first"
        assert (states is None) != (value is None), "give either states or a value"
        for i, name in enumerate(self._state_names):
            for k, (e, part) in enumerate(zip(self._execs, self._parts)):
                if states is None:
                    e.arg_dict[name][:] = value
                else:
                    whole = not isinstance(states[i], list | tuple)
                    e.arg_dict[name][:] = self._part(states[i], part) if whole else states[i][k]

    def _part(self, a, part):
        """The part of a whole array for one device."""
        return a if len(self._execs) == 1 else a[part]

    # Metrics and monitors.

    def update_metric(self, eval_metric, labels, pre_sliced=False):
        """Update a metric by the labels of a batch and the last outputs."""
        names = [d.name for d in self._label_shapes or ()]
        for k, (e, part) in enumerate(zip(self._execs, self._parts)):
            if pre_sliced:
                own = labels[k]
            else:
                own = [self._cut(n, y, part) for n, y in zip(names, labels)]
            eval_metric.update_dict(dict(zip(names, own)), e.output_dict)

    def install_monitor(self, mon):
        """Let a monitor hear of every operator's output."""
        assert self.binded, "call bind first"
        for e in self._execs:
            mon.install(e)

    # --- Files ----------------------------------------------------------------------------------

    def save_checkpoint(self, prefix, epoch, save_optimizer_states=False, remove_amp_cast=True):
        """Write the graph, the parameters, and if wanted the optimizer's states."""
        save_checkpoint(prefix, epoch, self._symbol, *self.get_params(), remove_amp_cast)
        if save_optimizer_states:
            self.save_optimizer_states(f"{prefix}-{epoch:04d}.states")
            self.logger.info('Saved optimizer state to "%s-%04d.states"', prefix, epoch)

    @staticmethod
    def load(prefix, epoch, load_optimizer_states=False, **kwargs):
        """A module from a checkpoint, to be bound."""
        symbol, learnt, states = load_checkpoint(prefix, epoch)
        found = Module(symbol, **kwargs)
        found._given, found.params_initialized = (learnt, states), True
        if load_optimizer_states:
            found._preload_opt_states = f"{prefix}-{epoch:04d}.states"
        return found


# --- Running it -----------------------------------------------------------------------------------


def cut(a, axis, part):
    """The slice of an array along an axis."""
    return a[(slice(None),) * axis + (part,)] if axis else a[part]  # rows of sparse arrays too
