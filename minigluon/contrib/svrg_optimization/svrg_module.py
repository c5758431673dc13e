"""Remember the mean gradient of one place: then a batch need only say how things have changed since."""

# Written from chapters/89c_variance_reduction.ipynb: edit the chapter, then run `minigluon export`.

import logging

from minigluon.module.module import Module
from minigluon.ndarray.utils import zeros

__all__ = ["SVRGModule"]


# --- Less noise, not smaller steps ----------------------------------------------------------------


class SVRGModule(Module):
    """A Module that descends by SVRG: `fit` takes the mean gradient over all data anew every
    `update_freq` epochs.

    Source: Johnson, Zhang: Accelerating Stochastic Gradient Descent using Predictive Variance
    Reduction, 2013.
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
        update_freq=None,
    ):
        if not isinstance(update_freq, int):
            raise TypeError(
                f"SVRGModule: update_freq is a whole number of epochs, not {update_freq!r}"
            )
        if update_freq <= 0:
            raise ValueError(f"SVRGModule: update_freq must be positive, not {update_freq}")
        names = data_names, label_names, logger, context, work_load_list, fixed_param_names
        rest = state_names, group2ctxs, compression_params
        super().__init__(symbol, *names, *rest)
        self.update_freq, self._param_dict = update_freq, None
        self._mod_aux = Module(symbol, *names, *rest)

    # --- Less noise, not smaller steps ------------------------------------------------------------

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
        """Make memory for batches of these shapes, for both modules if it is for training."""
        settings = for_training, inputs_need_grad, force_rebind
        super().bind(data_shapes, label_shapes, *settings, shared_module, grad_req)
        if for_training:
            shared = getattr(shared_module, "_mod_aux", None)
            shared = shared if shared is not None and shared.params_initialized else None
            self._mod_aux.bind(data_shapes, label_shapes, *settings, shared, grad_req)

    def reshape(self, data_shapes, label_shapes=None):
        """Go on with batches of other shapes; the two learn about them one after the other."""
        super().reshape(data_shapes, label_shapes)
        if self._mod_aux.binded:
            self._mod_aux.reshape(data_shapes, label_shapes)

    def init_optimizer(
        self,
        kvstore="local",
        optimizer="sgd",
        optimizer_params=(("learning_rate", 0.01),),
        force_init=False,
    ):
        """Choose the optimizer that takes the steps; the gradients it gets are those of SVRG."""
        if self.optimizer_initialized and not force_init:
            self.logger.warning("optimizer already initialized, ignoring...")
            return
        self._forget()
        settings = {"default_optimizer": optimizer, **dict(optimizer_params)}
        super().init_optimizer(kvstore, "_SVRGOptimizer", settings, force_init)
        if self._kvstore is not None:
            for i, name in enumerate(self._param_names):
                self._kvstore.init(len(self._param_names) + i, self._param_dict[0][name])

    def _forget(self):
        """Mean gradients of zero on each device."""
        self._param_dict = [
            {n: zeros(e.arg_dict[n].shape, e.arg_dict[n].context) for n in self._param_names}
            for e in self._execs
        ]

    def _numbered(self):
        """{number: name}; the mean gradients have numbers, too."""
        found = super()._numbered()
        first = len(found)
        return found | {first + i: f"{n}_full" for i, n in enumerate(self._param_names)}

    def update_full_grads(self, train_data):
        """Let the second module have the parameters of now, and take its mean gradient over all
        batches.
        """
        assert self.optimizer_initialized, "call init_optimizer first"
        self._mod_aux.set_params(*self.get_params())
        self._forget()
        train_data.reset()
        batches = 0
        for batch in train_data:
            self._mod_aux.forward(batch, is_train=True)
            self._mod_aux.backward()
            batches += 1 - (batch.pad or 0) / train_data.batch_size
            for e, sums in zip(self._mod_aux._execs, self._param_dict):
                for name in [n for n in sums if e.grad_dict.get(n) is not None]:
                    sums[name] += e.grad_dict[name]
        for sums in self._param_dict:
            for name in sums:
                sums[name] /= batches
        if self._kvstore is not None:
            for i, name in enumerate(self._param_names):
                self._accumulate_kvstore(len(self._param_names) + i, name)

    def _accumulate_kvstore(self, key, name):
        """The mean over devices and machines, to all of them."""
        own, many = [sums[name] for sums in self._param_dict], len(self._execs)
        self._kvstore.push(key, own)
        self._kvstore.pull(key, own)
        if "dist" in self._kvstore.type:
            many *= self._kvstore.num_workers
        for a in own:
            a /= many

    def _svrg_grads_update_rule(self, here, there, mean):
        """The gradients `here` turned into those of SVRG, array by array."""
        for g, old, whole in zip(here, there, mean):
            g -= old
            g += whole
        return here

    def forward(self, data_batch, is_train=None):
        """Run a batch; in training through the second module as well."""
        super().forward(data_batch, is_train)
        training = self.for_training if is_train is None else is_train
        if training and self._mod_aux.params_initialized:
            self._mod_aux.forward(data_batch, is_train=True)

    def backward(self, out_grads=None):
        """Compute all gradients, here and at the place that is remembered."""
        super().backward(out_grads)
        if self._mod_aux.params_initialized:
            self._mod_aux.backward(out_grads)

    def update(self):
        """Take the optimizer's step with the gradients of SVRG."""
        assert self.optimizer_initialized, "call init_optimizer first"
        if self._mod_aux.params_initialized:
            for e, other, mean in zip(self._execs, self._mod_aux._execs, self._param_dict):
                names = [n for n in self._param_names if e.grad_dict.get(n) is not None]
                here, there = ([x.grad_dict[n] for n in names] for x in (e, other))
                self._svrg_grads_update_rule(here, there, [mean[n] for n in names])
        super().update()

    def prepare(self, data_batch, sparse_row_id_fn=None):
        """Get both modules ready for the next batch."""
        super().prepare(data_batch, sparse_row_id_fn)
        self._mod_aux.prepare(data_batch, sparse_row_id_fn)

    def _epoch(self, train_data, epoch, *args):
        if epoch % self.update_freq == 0:
            self.update_full_grads(train_data)
            train_data.reset()
        super()._epoch(train_data, epoch, *args)
