"""A module knows its inputs, its outputs and the gradients of its inputs: enough to put modules in a row, and to write one in Python."""

# Written from chapters/89a_chains_of_modules.ipynb: edit the chapter, then run `minigluon export`.

import copy
import logging

from minigluon.initializer import Uniform
from minigluon.module.base_module import BaseModule

__all__ = ["SequentialModule"]


# --- Chains of modules ----------------------------------------------------------------------------


class SequentialModule(BaseModule):
    """Modules in a row: `add(module, take_labels=…, auto_wiring=…)`.

    A module with `take_labels` gets the labels and updates metrics; with `auto_wiring` the outputs
    before it take the names of its data.
    """

    META_TAKE_LABELS, META_AUTO_WIRING = "take_labels", "auto_wiring"

    def __init__(self, logger=logging):
        super().__init__(logger)
        self._modules, self._metas, self._label_shapes = [], [], None

    def add(self, module, **kwargs):
        """Put a module at the end; the row itself comes back."""
        for key in kwargs:
            assert key in (self.META_TAKE_LABELS, self.META_AUTO_WIRING), f"Unknown meta {key!r}"
        self._modules.append(module)
        self._metas.append(kwargs)
        self.binded = self.params_initialized = self.optimizer_initialized = False
        return self

    data_names = property(lambda self: self._modules[0].data_names if self._modules else [])
    output_names = property(lambda self: self._modules[-1].output_names if self._modules else [])
    data_shapes = property(lambda self: self._modules[0].data_shapes)
    output_shapes = property(lambda self: self._modules[-1].output_shapes)
    label_shapes = property(lambda self: self._label_shapes)

    # Parameters of all modules in one.

    def get_params(self):
        """The parameters and states of all modules."""
        assert self.binded and self.params_initialized, "call bind and init_params first"
        learnt, states = {}, {}
        for module in self._modules:
            own, own_states = module.get_params()
            learnt, states = learnt | own, states | own_states
        return learnt, states

    def init_params(
        self,
        initializer=Uniform(0.01),  # noqa: B008
        arg_params=None,
        aux_params=None,
        allow_missing=False,
        force_init=False,
        allow_extra=False,
    ):
        """Initialize all modules; AssertionError if two have parameters of one name."""
        if self.params_initialized and not force_init:
            return
        assert self.binded, "call bind before initializing the parameters"
        seen = {}
        for place, module in enumerate(self._modules):
            module.init_params(
                initializer, arg_params, aux_params, allow_missing, force_init, allow_extra
            )
            for name in [n for part in module.get_params() for n in part]:
                assert name not in seen, f"parameter {name} in modules {seen[name]} and {place}"
                seen[name] = place
        self.params_initialized = True

    # --- Chains of modules ------------------------------------------------------------------------

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
        """Bind each module to the outputs of the one before."""
        if self.binded and not force_rebind:
            self.logger.warning("Already bound, ignoring bind()")
            return
        assert shared_module is None, "SequentialModule shares no parameters"
        assert self._modules, "add modules before you bind"
        self.for_training, self.inputs_need_grad = for_training, inputs_need_grad
        self._label_shapes = label_shapes
        for place, (module, meta) in enumerate(zip(self._modules, self._metas)):
            if meta.get(self.META_AUTO_WIRING):
                names = module.data_names
                assert len(names) == len(data_shapes), f"{names} for {len(data_shapes)} arrays"
                data_shapes = [(n, s[1]) for n, s in zip(names, data_shapes)]
            module.bind(
                data_shapes,
                label_shapes if meta.get(self.META_TAKE_LABELS) else None,
                for_training,
                inputs_need_grad or (for_training and place > 0),
                force_rebind,
                None,
                grad_req,
            )
            data_shapes = module.output_shapes
        if not any(meta.get(self.META_TAKE_LABELS) for meta in self._metas):
            self._label_shapes = None
        self.binded = True

    # A batch goes forwards, gradients go backwards.

    def init_optimizer(
        self,
        kvstore="local",
        optimizer="sgd",
        optimizer_params=(("learning_rate", 0.01),),
        force_init=False,
    ):
        """Give each module an optimizer."""
        assert self.binded and self.params_initialized, "call bind and init_params first"
        if self.optimizer_initialized and not force_init:
            self.logger.warning("optimizer already initialized, ignoring...")
            return
        for module in self._modules:
            module.init_optimizer(kvstore, optimizer, optimizer_params, force_init)
        self.optimizer_initialized = True

    def forward(self, data_batch, is_train=None):
        """Run the modules one after the other."""
        batch = copy.copy(data_batch)
        for module in self._modules:
            module.forward(batch, is_train)
            batch.data = module.get_outputs()
            batch.provide_data = None

    def backward(self, out_grads=None):
        """Hand the gradients back, from the last module to the first."""
        for place, module in reversed([*enumerate(self._modules)]):
            module.backward(out_grads)
            out_grads = module.get_input_grads() if place else None

    def update(self):
        """Let each module take its optimizer's step."""
        for module in self._modules:
            module.update()

    def get_outputs(self, merge_multi_context=True):
        """The outputs of the last module."""
        return self._modules[-1].get_outputs(merge_multi_context)

    def get_input_grads(self, merge_multi_context=True):
        """The gradients of the data of the first module."""
        assert self.inputs_need_grad, "bind with inputs_need_grad=True to have them"
        return self._modules[0].get_input_grads(merge_multi_context)

    def update_metric(self, eval_metric, labels, pre_sliced=False):
        """Update a metric by the modules that take labels."""
        for meta, module in zip(self._metas, self._modules):
            if meta.get(self.META_TAKE_LABELS):
                module.update_metric(eval_metric, labels, pre_sliced)

    def install_monitor(self, mon):
        """Let a monitor hear of all modules."""
        for module in self._modules:
            module.install_monitor(mon)
