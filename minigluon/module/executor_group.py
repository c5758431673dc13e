"""A module knows its inputs, its outputs and the gradients of its inputs: enough to put modules in a row, and to write one in Python."""

# Written from chapters/89a_chains_of_modules.ipynb: edit the chapter, then run `minigluon export`.

import logging

from minigluon.module.base_module import described
from minigluon.module.module import Module

__all__ = ["DataParallelExecutorGroup"]


# --- Chains of modules ----------------------------------------------------------------------------


class DataParallelExecutorGroup:
    """Executors of one graph, one a device, each with its part of every batch.

    With a `shared_group` parameters are those of that one. `param_names` are what is learnt.
    """

    def __init__(
        self,
        symbol,
        contexts,
        workload,
        data_shapes,
        label_shapes,
        param_names,
        for_training,
        inputs_need_grad,
        shared_group=None,
        logger=logging,
        fixed_param_names=None,
        grad_req="write",
        state_names=None,
        group2ctxs=None,
    ):
        names = [[d.name for d in described(of) or ()] for of in (data_shapes, label_shapes)]
        more = None, fixed_param_names, state_names, group2ctxs
        module = Module(symbol, *names, logger, contexts, *more)
        module._param_names = list(param_names)
        module.bind(
            *(data_shapes, label_shapes, for_training, inputs_need_grad, False),
            *(shared_group and shared_group._module, grad_req),
        )
        module.params_initialized = True  # whoever makes a group fills it
        self._module, self.workload = module, workload
        self.shared_data_arrays = shared_group.shared_data_arrays if shared_group else self._data()

    # --- Chains of modules ------------------------------------------------------------------------

    @classmethod
    def of(cls, module):
        """The group of a module that has its memory."""
        found = object.__new__(cls)
        found._module, found.workload = module, [1] * len(module._context)
        found.shared_data_arrays = found._data()
        return found

    def _data(self):
        """For each executor {name: array} of its data and labels."""
        known = {*self.data_names, *self.label_names}
        return [{n: a for n, a in e.arg_dict.items() if n in known} for e in self.execs]

    def _by_name(self, names, arrays):
        """For each name the arrays of all devices."""
        return [[arrays(e)[n] for e in self.execs] for n in names]

    # What the module knows.

    execs = property(lambda self: self._module._execs)
    symbol = property(lambda self: self._module._symbol)
    contexts = property(lambda self: self._module._context)
    slices = property(lambda self: self._module._parts)
    batch_size = property(lambda self: self._module._batch_size)
    param_names = property(lambda self: self._module._param_names)
    aux_names = property(lambda self: self._module._aux_names)
    arg_names = property(lambda self: self.symbol.list_arguments())
    data_names = property(lambda self: self._module.data_names)
    label_names = property(lambda self: self._module.label_names)
    state_names = property(lambda self: self._module._state_names)
    fixed_param_names = property(lambda self: self._module._fixed_param_names)
    output_names = property(lambda self: self._module.output_names)
    data_shapes = property(lambda self: self._module.data_shapes)
    label_shapes = property(lambda self: self._module.label_shapes)
    grad_req = property(lambda self: self._module._requests())
    for_training = property(lambda self: self._module.for_training)
    inputs_need_grad = property(lambda self: self._module.inputs_need_grad)

    # Arrays: of each name those of all devices.

    param_arrays = property(lambda self: self._by_name(self.param_names, lambda e: e.arg_dict))
    aux_arrays = property(lambda self: self._by_name(self.aux_names, lambda e: e.aux_dict))
    state_arrays = property(lambda self: self._by_name(self.state_names, lambda e: e.arg_dict))

    @property
    def grad_arrays(self):
        """The gradients of the parameters; None without training."""
        names = [n for n in self.param_names if n in self.execs[0].grad_dict]
        return self._by_name(names, lambda e: e.grad_dict) if self.for_training else None

    @property
    def input_grad_arrays(self):
        """The gradients of the data; None unless they are wanted."""
        wanted = self.inputs_need_grad
        return self._by_name(self.data_names, lambda e: e.grad_dict) if wanted else None

    def forward(self, data_batch, is_train=None):
        """Run the graph on a batch."""
        self._module.forward(data_batch, is_train)

    def backward(self, out_grads=None):
        """Compute all gradients."""
        assert self.for_training, "re-bind with for_training=True to run backward"
        self._module.backward(out_grads)

    def get_outputs(self, merge_multi_context=True, begin=0, end=None):
        """The outputs of the last forward, or some of them."""
        return self._module.get_outputs(merge_multi_context)[begin:end]

    def get_output_shapes(self):
        """Pairs of name and shape of the outputs."""
        return self._module.output_shapes

    def get_input_grads(self, merge_multi_context=True):
        """The gradients of the data."""
        return self._module.get_input_grads(merge_multi_context)

    def get_states(self, merge_multi_context=True):
        """The arguments that are states."""
        return self._module.get_states(merge_multi_context)

    def set_states(self, states=None, value=None):
        """Write the states."""
        self._module.set_states(states, value)

    def get_params(self, arg_params, aux_params):
        """Write the parameters and states into two dictionaries."""
        for given, own in zip((arg_params, aux_params), self._module.get_params()):
            for name, a in own.items():
                given[name] = a.astype(given[name].dtype) if name in given else a

    def set_params(self, arg_params, aux_params, allow_extra=False):
        """Write arrays into the parameters of their names, on all devices."""
        for e in self.execs:
            e.copy_params_from(arg_params, aux_params, allow_extra_params=allow_extra)

    def update_metric(self, eval_metric, labels, pre_sliced=False):
        """Update a metric by labels and the last outputs."""
        self._module.update_metric(eval_metric, labels, pre_sliced)

    def install_monitor(self, mon):
        """Let a monitor hear of every operator's output."""
        self._module.install_monitor(mon)

    def bind_exec(self, data_shapes, label_shapes, shared_group=None, reshape=False):
        """Make the executors anew for batches of other shapes."""
        self._module.reshape(data_shapes, label_shapes)

    reshape = bind_exec


Module._exec_group = property(DataParallelExecutorGroup.of)
