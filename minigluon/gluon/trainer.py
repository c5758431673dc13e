"""After every batch: gather the gradients of all devices, divide by the batch, update every parameter."""

# Written from chapters/71_trainer.ipynb: edit the chapter, then run `minigluon export`.

import os
from math import prod

import minigluon.kvstore as kvs
from minigluon import optimizer as opt
from minigluon.autograd import Leaf
from minigluon.gluon.parameter import Parameter, ParameterDict
from minigluon.states import load_states, save_states

__all__ = ["Trainer", "as_parameters", "create_kvstore", "create_sparse_kvstore"]


# --- The trainer ----------------------------------------------------------------------------------


class Trainer:
    """Updates parameters by an optimizer after each backward pass.

    `params` is a ParameterDict, a dict or a list, all on the same contexts; `optimizer` a name with
    `optimizer_params`, or an object. Gradients of several contexts are summed by `kvstore`, a name or
    a store; of several processes, by 'dist_sync'. With `update_on_kvstore` the store holds the true
    weights and updates them, which is the default where there is a store.
    """

    def __init__(
        self,
        params,
        optimizer,
        optimizer_params=None,
        kvstore="device",
        compression_params=None,
        update_on_kvstore=None,
    ):
        self._params = as_parameters(params)
        self._param2idx = {p.name: i for i, p in enumerate(self._params)}
        self._contains_sparse_weight = any(p._stype != "default" for p in self._params)
        self._contains_sparse_grad = any(p._grad_stype != "default" for p in self._params)
        self._own_parameters()
        self._compression_params = compression_params
        self._contexts = self._check_contexts()
        self._optimizer = self._make_optimizer(optimizer, optimizer_params)
        self._scale = self._optimizer.rescale_grad
        self._updaters = [opt.get_updater(self._optimizer) for _ in self._contexts]
        self._kvstore_params = {"kvstore": kvstore, "update_on_kvstore": update_on_kvstore}
        self._kvstore = self._distributed = self._update_on_kvstore = None
        self._reset_kvstore()

    # --- The trainer ------------------------------------------------------------------------------

    def _own_parameters(self):
        """Tell parameters that are stored as rows where to get these."""
        for p in self._params:
            if hasattr(p, "_set_trainer"):
                p._set_trainer(self)

    def _check_contexts(self):
        """The contexts of the parameters; AssertionError if they are not all the same."""
        contexts = None
        for p in self._params:
            assert contexts is None or contexts == p.list_ctx(), (
                "All Parameters must be initialized on the same set of contexts, but Parameter "
                f"{p.name} is initialized on {p.list_ctx()} while previous Parameters are initialized "
                f"on {contexts}."
            )
            contexts = p.list_ctx()
        return contexts or []

    def _make_optimizer(self, optimizer, optimizer_params):
        by_index = dict(enumerate(self._params))
        if isinstance(optimizer, opt.Optimizer):
            assert not optimizer_params, (
                "optimizer_params must be None if optimizer is an instance of Optimizer instead of str"
            )
            optimizer.param_dict = by_index
            return optimizer
        return opt.create(optimizer, param_dict=by_index, **(optimizer_params or {}))

    @property
    def optimizer(self):
        """The optimizer."""
        return self._optimizer

    @property
    def learning_rate(self):
        """The learning rate now."""
        return self._optimizer.learning_rate

    def set_learning_rate(self, lr):
        """Set the learning rate; UserWarning is raised if a schedule decides."""
        self._optimizer.set_learning_rate(lr)

    # --- Which store, and who updates -------------------------------------------------------------

    def _reset_kvstore(self):
        """Forget the store; the next step makes it anew."""
        if self._distributed:
            raise RuntimeError("Cannot reset distributed KVStore.")
        for p in self._params if self._kvstore is not None else ():
            if p._stype != "default" and p not in self._params_to_init:
                self._kvstore.pull(self._param2idx[p.name], p._data, ignore_sparse=False)
        self._kvstore = self._distributed = self._update_on_kvstore = None
        self._kv_initialized, self._params_to_init = False, list(self._params)

    def _init_kvstore(self):
        """Make the store, and decide who updates."""
        store, on_store = self._choose()
        wanted = self._kvstore_params["update_on_kvstore"]
        if wanted and store is None:
            raise ValueError("update_on_kvstore=True needs a kvstore: one device alone has none")
        if wanted and not store.is_capable(kvs.KVStoreBase.OPTIMIZER):
            raise ValueError(f"Please set update_on_kvstore=False when training with {type(store)}")
        self._update_on_kvstore = on_store if wanted is None or store is None else bool(wanted)
        self._kvstore, self._kv_initialized = store, True
        self._distributed = store is not None and "dist" in store.type
        if store is not None and self._compression_params:
            store.set_gradient_compression(self._compression_params)
        if self._update_on_kvstore:
            store.set_optimizer(self._optimizer)

    def _choose(self):
        """The store, and whether it updates by default."""
        given, wanted = self._kvstore_params["kvstore"], self._kvstore_params["update_on_kvstore"]
        if self._contains_sparse_weight:
            if wanted is False:
                raise ValueError(
                    "Cannot set update_on_kvstore=False when sparse weights are present."
                )
            return create_sparse_kvstore(given)
        arrays = {p.name: p.data(self._contexts[0]) for p in self._params}
        store, on_store = create_kvstore(given, len(self._contexts), arrays)
        if not self._contains_sparse_grad or store is None:
            return store, on_store
        if not isinstance(store, kvs.KVStore):
            raise ValueError(
                f"Cannot use {type(store)} for multi-device training with sparse gradients"
            )
        return store, "dist" in store.type

    def _init_params(self):
        """Give the store the parameters that have numbers by now; the rest waits."""
        waiting = []
        for p in self._params_to_init if self._kvstore is not None else ():
            index = self._param2idx[p.name]
            if p._data is None and p._deferred_init:
                waiting.append(p)
            elif p._stype != "default":
                self._kvstore.init(index, p._data[0])
            else:
                self._kvstore.broadcast(index, p.list_data()[0], p.list_data())
        self._params_to_init = waiting

    def _prepare(self):
        if not self._kv_initialized:
            self._init_kvstore()
        if self._params_to_init:
            self._init_params()

    def _forget(self, parameter):
        """Drop a store that holds other numbers than those that `parameter` is about to get."""
        if self._update_on_kvstore and parameter not in self._params_to_init:
            self._reset_kvstore()

    def _row_sparse_pull(self, parameter, out, row_id, full_idx=False):
        """Get rows of a parameter from the store; `full_idx`: all of them."""
        self._prepare()
        index = self._param2idx[parameter.name]
        if full_idx and not self._distributed:
            self._kvstore.pull(index, out=out, priority=-index, ignore_sparse=False)
        else:
            self._kvstore.row_sparse_pull(index, out=out, row_ids=row_id, priority=-index)

    # --- A step -----------------------------------------------------------------------------------

    def step(self, batch_size, ignore_stale_grad=False):
        """Sum the gradients over contexts and processes, divide by `batch_size`, update.

        Raises UserWarning, before anything has changed, for a gradient that no backward pass has
        written since the last step; with `ignore_stale_grad` such parameters are left alone.
        """
        self._check_and_rescale_grad(self._scale / batch_size)
        if self._params_to_init or not self._kv_initialized:
            self._prepare()
        learnt = self._learnt(ignore_stale_grad)
        if type(self)._allreduce_grads is not Trainer._allreduce_grads:
            self._allreduce_grads()
        elif self._kvstore is not None:
            self._reduce(learnt)
        self._apply(learnt)

    def allreduce_grads(self):
        """Sum the gradients over contexts and processes only; `update` is to follow."""
        self._prepare()
        self._require_own_updates("allreduce_grads")
        self._allreduce_grads()

    def update(self, batch_size, ignore_stale_grad=False):
        """Divide by `batch_size` and update, without summing over contexts."""
        self._prepare()
        self._require_own_updates("update")
        self._check_and_rescale_grad(self._scale / batch_size)
        self._update(ignore_stale_grad)

    def _allreduce_grads(self):
        """Sum the gradients over contexts and processes; a subclass may do it in its own way."""
        if self._kvstore is not None:
            self._reduce(self._learnt(True, fresh=False))

    def _update(self, ignore_stale_grad=False):
        """Update with the gradients as they are."""
        self._apply(self._learnt(ignore_stale_grad))

    def _check_and_rescale_grad(self, scale):
        """Tell the optimizer what to multiply gradients with."""
        self._optimizer.rescale_grad = scale

    def _require_own_updates(self, name):
        assert not self._update_on_kvstore, (
            f"{name}() when parameters are updated on kvstore is not supported. "
            "Try setting `update_on_kvstore` to False when creating trainer."
        )

    def _learnt(self, ignore_stale_grad, fresh=True):
        """Pairs of number and arrays of the parameters to update; processes must agree on them."""
        learnt, fresh = [], fresh and not (ignore_stale_grad and self._distributed)
        for index, parameter in enumerate(self._params):
            if parameter._grad_req == "null":
                continue
            arrays = parameter._data
            if arrays is None:
                parameter._check_initialized()
            stale = fresh and [a for a in arrays if type(a._node) is not Leaf or not a._node.fresh]
            if not stale:
                learnt.append((index, arrays))
            elif not ignore_stale_grad:
                raise UserWarning(
                    f"Gradient of Parameter `{parameter.name}` on context {stale[0].context} has not "
                    "been updated by backward since last `step`. This could mean a bug in your model "
                    "that made it only use a subset of the Parameters (Blocks) for this iteration. If "
                    "you are intentionally only using a subset, call step with ignore_stale_grad=True "
                    "to suppress this warning and skip updating of Parameters with stale gradient"
                )
        return learnt

    def _reduce(self, learnt):
        """Sum gradients through the store, into themselves or, if it updates, into the weights."""
        dense = []
        for index, arrays in learnt:
            grads = [a.grad for a in arrays]
            outs = arrays if self._update_on_kvstore else grads
            if grads[0].stype == "default":
                dense.append((index, grads, outs))
                continue
            self._kvstore.push(index, grads, priority=-index)
            if self._params[index]._stype == "default":
                self._kvstore.pull(index, outs, priority=-index, ignore_sparse=False)
        if dense and isinstance(self._kvstore, kvs.KVStore):
            self._kvstore.pushpull(*(list(column) for column in zip(*dense)))
            return
        for index, grads, outs in dense:
            self._kvstore.pushpull(
                index, grads, out=None if outs is grads else outs, priority=-index
            )

    def _apply(self, learnt):
        scaler = getattr(self, "_amp_loss_scaler", None)
        if scaler is not None and scaler.has_overflow(self._params):
            return
        for _, arrays in learnt:
            for a in arrays:
                a._node.fresh = False
        if self._update_on_kvstore or not learnt:
            return
        indices, parameters = zip(*learnt)
        for update, arrays in zip(self._updaters, zip(*parameters)):
            update(indices, [a._node.grad for a in arrays], arrays)

    # --- States -----------------------------------------------------------------------------------

    def save_states(self, fname):
        """Write what the optimizer remembers, on all contexts, into a file of arrays and JSON."""
        self._prepare()
        assert not (self._update_on_kvstore and self._params_to_init), (
            "Cannot save trainer states when some parameters are not yet initialized in kvstore."
        )
        save_states(fname, self._remembering())

    def load_states(self, fname):
        """Read what `save_states` has written; parameters keep their `lr_mult` and `wd_mult`.

        MXNetError, with nothing changed, for another file; a pickle of MXNet's is refused.
        """
        self._prepare()
        updaters = self._remembering()
        stored = [self._contexts[0]] if self._update_on_kvstore else self._contexts
        load_states(fname, updaters, stored)
        self._optimizer = updaters[0].optimizer
        self._optimizer.param_dict = dict(enumerate(self._params))

    def _remembering(self):
        """The updaters that have states."""
        return [self._kvstore._updater] if self._update_on_kvstore else self._updaters


def as_parameters(params):
    """A list of parameters; those of a dictionary in the order of their names."""
    if isinstance(params, dict | ParameterDict):
        params = [params[name] for name in sorted(params)]
    if not isinstance(params, list | tuple):
        raise ValueError(
            f"First argument must be a list or dict of Parameters, got {type(params)}."
        )
    for p in params:
        if not isinstance(p, Parameter):
            raise ValueError(
                f"First argument must be a list or dict of Parameters, got list of {type(p)}."
            )
    return list(params)


# --- Which store, and who updates -----------------------------------------------------------------


def create_kvstore(kvstore, num_device, arg_params):
    """The store that a name means for parameters {name: array}, or None; and whether it updates."""
    on_store = bool(int(os.getenv("MXNET_UPDATE_ON_KVSTORE", "1")))
    if isinstance(kvstore, str):
        if num_device <= 1 and "dist" not in kvstore:
            return None, False
        sizes = [prod(a.shape) for a in arg_params.values()]
        if kvstore == "local" and max(sizes, default=0) > 16 * 1024**2:
            on_store = False
        kvstore = kvs.create(kvstore)
    if kvstore is None:
        return None, False
    if not isinstance(kvstore, kvs.KVStoreBase):
        raise TypeError("kvstore must be KVStore, str or None")
    return kvstore, on_store and kvstore.is_capable(kvs.KVStoreBase.OPTIMIZER)


def create_sparse_kvstore(kvstore):
    """The store for weights that are stored as rows, which it updates."""
    if isinstance(kvstore, str):
        kvstore = kvs.create(kvstore)
    if not isinstance(kvstore, kvs.KVStore):
        raise TypeError(
            f"Cannot create '{kvstore}' KVStore with row_sparse parameters. "
            "The type must be KVStore or str."
        )
    return kvstore, True
