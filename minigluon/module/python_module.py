"""A module knows its inputs, its outputs and the gradients of its inputs: enough to put modules in a row, and to write one in Python."""

# Written from chapters/89a_chains_of_modules.ipynb: edit the chapter, then run `minigluon export`.

import logging

from minigluon.module.base_module import BaseModule, described
from minigluon.ndarray.ndarray import NDArray, array

__all__ = ["PythonLossModule", "PythonModule"]


# --- Chains of modules ----------------------------------------------------------------------------


class PythonModule(BaseModule):
    """A module without parameters, written in Python:
    subclasses define `forward`, `backward` and `_compute_output_shapes`.
    """

    def __init__(self, data_names, label_names, output_names, logger=logging):
        super().__init__(logger)
        self._data_names, self._label_names = list(data_names), list(label_names or ())
        self._output_names = list(output_names)
        self._data_shapes = self._label_shapes = self._output_shapes = None

    data_names = property(lambda self: self._data_names, doc="Names of the data.")
    output_names = property(lambda self: self._output_names, doc="Names of the outputs.")
    data_shapes = property(lambda self: self._data_shapes, doc="Descriptions of the data.")
    label_shapes = property(lambda self: self._label_shapes, doc="Descriptions of the labels.")
    output_shapes = property(lambda self: self._output_shapes, doc="Names and shapes of outputs.")

    def get_params(self):
        """No parameters, and no states."""
        return {}, {}

    def init_params(self, *args, **kwargs):
        """There is nothing to initialize."""
        self.params_initialized = True

    def init_optimizer(self, *args, **kwargs):
        """There is nothing to optimize."""
        self.optimizer_initialized = True

    def update(self):
        """There is nothing to update."""

    def update_metric(self, eval_metric, labels, pre_sliced=False):
        """Update a metric by the labels and the last outputs, if labels are described."""
        if self._label_shapes is not None:
            eval_metric.update(labels, self.get_outputs())

    # Shapes instead of an executor.

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
        """Note the shapes of the batches."""
        if self.binded and not force_rebind:
            self.logger.warning("Already bound, ignoring bind()")
            return
        assert grad_req == "write", "a PythonModule writes its gradients"
        self.for_training, self.inputs_need_grad = for_training, inputs_need_grad
        self._data_shapes, self._label_shapes = described(data_shapes), described(label_shapes)
        names = [d.name for d in self._data_shapes]
        assert names == self._data_names, f"data {names}, but data_names are {self._data_names}"
        self._output_shapes = self._compute_output_shapes()
        self.binded = True

    def _compute_output_shapes(self):
        raise NotImplementedError(
            f"{type(self).__name__} does not say what shapes its outputs have"
        )


class PythonLossModule(PythonModule):
    """A loss at the end of a chain: it outputs the scores, and `grad_func(scores, labels)` is their
    gradient.
    """

    def __init__(
        self,
        name="pyloss",
        data_names=("data",),
        label_names=("softmax_label",),
        logger=logging,
        grad_func=None,
    ):
        super().__init__(data_names, label_names, [f"{name}_output"], logger)
        self._name = name
        assert len(self._data_names) == len(self._label_names) == 1, (
            "one array of scores, one of labels"
        )
        assert grad_func is None or callable(grad_func), "grad_func must be a function"
        self._scores = self._labels = self._scores_grad = None
        self._grad_func = grad_func

    def _compute_output_shapes(self):
        return [(f"{self._name}_output", self._data_shapes[0].shape)]

    def forward(self, data_batch, is_train=None):
        """Remember scores and labels."""
        self._scores = data_batch.data[0]
        if self.for_training if is_train is None else is_train:
            self._labels = data_batch.label[0]

    def get_outputs(self, merge_multi_context=True):
        """The scores."""
        return [self._scores]

    def backward(self, out_grads=None):
        """Compute the gradient of the scores; there is none to come from behind a loss."""
        assert out_grads is None, "PythonLossModule is a loss: it takes no out_grads"
        assert self.for_training, "bind with for_training=True to run backward"
        self._backward_impl()

    def _backward_impl(self):
        """What a subclass without `grad_func` defines: it sets `_scores_grad`."""
        if self._grad_func is None:
            raise NotImplementedError("give grad_func, or define _backward_impl")
        grad = self._grad_func(self._scores, self._labels)
        self._scores_grad = grad if isinstance(grad, NDArray) else array(grad)

    def get_input_grads(self, merge_multi_context=True):
        """The gradient of the scores."""
        return [self._scores_grad]
