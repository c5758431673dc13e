"""Write the network down first, give it memory second, run it third: the older half of MXNet, on the same graphs and optimizers."""

# Written from chapters/89_module.ipynb: edit the chapter, then run `minigluon export`.

import logging

from minigluon.context import cpu
from minigluon.initializer import Uniform
from minigluon.model import load_params
from minigluon.module.base_module import BaseModule
from minigluon.module.module import Module
from minigluon.ndarray import utils
from minigluon.ndarray.ndarray import array

__all__ = ["BucketingModule"]


# --- One graph for each length --------------------------------------------------------------------


class BucketingModule(BaseModule):
    """Modules for several shapes of data that share their parameters.

    `sym_gen(key)` gives a graph, the names of its data and of its labels; a batch says which key is
    its by `bucket_key`.
    """

    def __init__(
        self,
        sym_gen,
        default_bucket_key=None,
        logger=logging,
        context=None,
        work_load_list=None,
        fixed_param_names=None,
        state_names=None,
        group2ctxs=None,
        compression_params=None,
    ):
        super().__init__(logger)
        assert default_bucket_key is not None, "BucketingModule needs a default_bucket_key"
        self._sym_gen, self._default_bucket_key = sym_gen, default_bucket_key
        self._settings = {
            "logger": logger,
            "context": cpu() if context is None else context,
            "work_load_list": work_load_list,
            "fixed_param_names": fixed_param_names,
            "state_names": state_names,
            "group2ctxs": group2ctxs,
            "compression_params": compression_params,
        }
        self._buckets, self._curr_module, self._curr_bucket_key = {}, None, None
        self._given = None  # parameters that came before memory
        self._graphs = {}  # key -> graph, where it does not come from sym_gen

    def _made(self, key):
        """The module of a key, not bound yet."""
        symbol, data_names, label_names = self._sym_gen(key)
        symbol = self._graphs.get(key, symbol)
        return Module(symbol, data_names, label_names, **self._settings)

    data_shapes = property(lambda self: self._curr_module.data_shapes, doc="Of the last batch.")
    label_shapes = property(lambda self: self._curr_module.label_shapes, doc="Of the last batch.")
    output_shapes = property(lambda self: self._curr_module.output_shapes, doc="Of the last batch.")
    symbol = property(lambda self: self._curr_module.symbol, doc="The graph of the last batch.")

    @property
    def data_names(self):
        """Names of the data."""
        if self.binded:
            return self._curr_module.data_names
        return self._sym_gen(self._default_bucket_key)[1]

    @property
    def output_names(self):
        """Names of the outputs."""
        if self.binded:
            return self._curr_module.output_names
        return self._sym_gen(self._default_bucket_key)[0].list_outputs()

    # --- One graph for each length ----------------------------------------------------------------

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
        """Make memory for the default key; the other keys follow when they are met."""
        assert shared_module is None, "a BucketingModule cannot share another module's parameters"
        if self.binded and not force_rebind:
            self.logger.warning("Already bound, ignoring bind()")
            return
        kept = self.get_params() if self.params_initialized else self._given
        self._how = {
            "for_training": for_training,
            "inputs_need_grad": inputs_need_grad,
            "grad_req": grad_req,
        }
        self.for_training, self.inputs_need_grad = for_training, inputs_need_grad
        module = self._made(self._default_bucket_key)
        module.bind(data_shapes, label_shapes, **self._how)
        self._buckets = {self._default_bucket_key: module}
        self._curr_module, self._curr_bucket_key = module, self._default_bucket_key
        self.binded = True
        if kept is not None:
            self._given = None
            self.set_params(*kept)

    def switch_bucket(self, bucket_key, data_shapes, label_shapes=None):
        """Go on with the module of a key, made if it is the first time."""
        assert self.binded, "call bind before switching buckets"
        if bucket_key not in self._buckets:
            first = self._buckets[self._default_bucket_key]
            module = self._made(bucket_key)
            module.bind(data_shapes, label_shapes, shared_module=first, **self._how)
            if self.optimizer_initialized:
                module.borrow_optimizer(first)
            self._buckets[bucket_key] = module
        self._curr_module, self._curr_bucket_key = self._buckets[bucket_key], bucket_key

    def init_params(
        self,
        initializer=Uniform(0.01),  # noqa: B008
        arg_params=None,
        aux_params=None,
        allow_missing=False,
        force_init=False,
        allow_extra=False,
    ):
        """As a module does; the parameters are those of all keys."""
        if self.params_initialized and not force_init:
            return
        assert self.binded, "call bind before initializing the parameters"
        self._curr_module.init_params(
            initializer, arg_params, aux_params, allow_missing, force_init, allow_extra
        )
        self.params_initialized = True

    def get_params(self):
        """Copies of the parameters and of the states, two dictionaries."""
        self._require_ready()
        return self._curr_module.get_params()

    def init_optimizer(
        self,
        kvstore="local",
        optimizer="sgd",
        optimizer_params=(("learning_rate", 0.01),),
        force_init=False,
    ):
        """As a module does; the optimizer and its states are those of all keys."""
        self._require_ready()
        if self.optimizer_initialized and not force_init:
            self.logger.warning("optimizer already initialized, ignoring.")
            return
        first = self._buckets[self._default_bucket_key]
        first.init_optimizer(kvstore, optimizer, optimizer_params, force_init)
        for module in self._buckets.values():
            if module is not first:
                module.borrow_optimizer(first)
        self.optimizer_initialized = True

    def forward(self, data_batch, is_train=None):
        """Run the graph of the batch's key."""
        self._require_ready()
        key = data_batch.bucket_key
        key = self._default_bucket_key if key is None else key
        self.switch_bucket(key, data_batch.provide_data, data_batch.provide_label)
        self._curr_module.forward(data_batch, is_train)

    def backward(self, out_grads=None):
        """Compute the gradients of the last batch."""
        self._curr_module.backward(out_grads)

    def update(self):
        """Take the optimizer's step."""
        assert self.optimizer_initialized, "call init_optimizer first"
        self._curr_module.update()

    def get_outputs(self, merge_multi_context=True):
        """The outputs of the last batch."""
        return self._curr_module.get_outputs(merge_multi_context)

    def get_input_grads(self, merge_multi_context=True):
        """The gradients of the data of the last batch."""
        return self._curr_module.get_input_grads(merge_multi_context)

    def update_metric(self, eval_metric, labels, pre_sliced=False):
        """Update a metric by the labels of the last batch."""
        self._curr_module.update_metric(eval_metric, labels, pre_sliced)

    def install_monitor(self, mon):
        """Let a monitor hear of every operator's output, for the keys met so far."""
        for module in self._buckets.values():
            module.install_monitor(mon)

    def save_checkpoint(self, prefix, epoch, remove_amp_cast=False):
        """Write the graph of each key, the parameters, and the keys where they are whole numbers,
        as MXNet's `load` wants them.
        """
        for key, module in self._buckets.items():
            module.symbol.save(f"{prefix}-{key}-symbol.json", remove_amp_cast=remove_amp_cast)
        self.save_params(f"{prefix}-{epoch:04d}.params")
        if all(isinstance(key, int) for key in self._buckets):
            utils.save(f"{prefix}.buckets", array([*self._buckets], dtype="int32"))

    @staticmethod
    def load(prefix, epoch, sym_gen=None, default_bucket_key=None, **kwargs):
        """A bucketing module with the parameters of a checkpoint, to be bound by `fit` or `bind`."""
        assert sym_gen is not None, "BucketingModule.load needs sym_gen"
        found = BucketingModule(sym_gen, default_bucket_key, **kwargs)
        found._given = load_params(prefix, epoch)
        return found

    @staticmethod
    def load_dict(
        sym_dict=None,
        sym_gen=None,
        default_bucket_key=None,
        arg_params=None,
        aux_params=None,
        **kwargs,
    ):
        """A bucketing module with these parameters, and the graphs {key: graph} in the place
        of `sym_gen`'s.
        """
        assert sym_gen is not None, "BucketingModule.load_dict needs sym_gen"
        found = BucketingModule(sym_gen, default_bucket_key, **kwargs)
        found._graphs = dict(sym_dict or {})
        if arg_params is not None:
            found._given = arg_params, aux_params or {}
        return found

    def get_states(self, merge_multi_context=True):
        """The states of the last batch's key."""
        self._require_ready()
        return self._curr_module.get_states(merge_multi_context)

    def set_states(self, states=None, value=None):
        """Write the states of the last batch's key."""
        self._require_ready()
        self._curr_module.set_states(states, value)
