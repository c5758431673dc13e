"""After every batch: gather the gradients of all devices, divide by the batch, update every parameter."""

# Written from chapters/71_trainer.ipynb: edit the chapter, then run `minigluon export`.

from minigluon import optimizer as opt
from minigluon.autograd import Leaf, pause
from minigluon.gluon.parameter import Parameter, ParameterDict

__all__ = ["Trainer", "as_parameters", "check_unsupported"]


# --- The trainer ----------------------------------------------------------------------------------


class Trainer:
    """Updates parameters by an optimizer after each backward pass.

    `params` is a ParameterDict, a dict or a list; `optimizer` a name with `optimizer_params`, or an
    object. Parameters on several contexts get the sum of their gradients.
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
        check_unsupported(kvstore, compression_params, update_on_kvstore)
        self._scale = (optimizer_params or {}).get("rescale_grad", 1.0)
        self._optimizer = self._make_optimizer(optimizer, optimizer_params)
        self._updaters = {}  # context -> Updater

    # --- The trainer ------------------------------------------------------------------------------

    def _make_optimizer(self, optimizer, optimizer_params):
        by_index = dict(enumerate(self._params))
        if isinstance(optimizer, opt.Optimizer):
            assert not optimizer_params, (
                "optimizer_params must be None if optimizer is an instance of Optimizer"
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

    # --- A step -----------------------------------------------------------------------------------

    def step(self, batch_size, ignore_stale_grad=False):
        """Sum the gradients over contexts, divide by `batch_size`, update all parameters.

        Raises UserWarning, before anything has changed, for a gradient that no backward pass has
        written since the last step; with `ignore_stale_grad` such parameters are left alone.
        """
        self._optimizer.rescale_grad = self._scale / batch_size
        learnt = self._learnt(ignore_stale_grad)
        self._reduce(learnt)
        self._update(learnt)

    def allreduce_grads(self):
        """Sum the gradients over contexts only; `update` is to follow."""
        self._reduce(self._learnt(True))

    def update(self, batch_size, ignore_stale_grad=False):
        """Divide by `batch_size` and update all parameters, without summing over contexts."""
        self._optimizer.rescale_grad = self._scale / batch_size
        self._update(self._learnt(ignore_stale_grad))

    def _learnt(self, ignore_stale_grad):
        """Pairs of number and arrays of the parameters to update."""
        learnt = []
        for index, parameter in enumerate(self._params):
            if parameter.grad_req == "null":
                continue
            arrays = parameter.list_data()
            stale = [a for a in arrays if type(a._node) is not Leaf or not a._node.fresh]
            if not stale:
                learnt.append((index, arrays))
            elif not ignore_stale_grad:
                raise UserWarning(
                    f"Gradient of Parameter `{parameter.name}` on context {arrays[0].context} has not "
                    "been updated by backward since last `step`. This could mean a bug in your model "
                    "that made it only use a subset of the Parameters (Blocks) for this iteration. If "
                    "you are intentionally only using a subset, call step with ignore_stale_grad=True"
                )
        return learnt

    # --- A step -----------------------------------------------------------------------------------

    def _reduce(self, learnt):
        """Replace each gradient by the sum over the parameter's contexts."""
        with pause():
            for _, arrays in learnt:
                if len(arrays) > 1:
                    total = arrays[0].grad
                    for other in arrays[1:]:
                        total = total + other.grad.as_in_context(total.context)
                    for a in arrays:
                        a.grad[:] = total.as_in_context(a.context)

    def _update(self, learnt):
        updaters = self._updaters
        for index, arrays in learnt:
            for a in arrays:
                update, node = updaters.get(a._ctx), a._node
                if update is None:
                    update = updaters[a._ctx] = opt.get_updater(self._optimizer)
                update(index, node.grad, a)
                node.fresh = False


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


def check_unsupported(kvstore, compression_params, update_on_kvstore):
    """Refuse what needs a key-value store over machines, which has no chapter yet."""
    if kvstore not in (None, "local", "device"):
        raise ValueError(f"kvstore={kvstore!r}: this edition knows 'local', 'device' and None")
    if compression_params:
        raise ValueError("compression_params: gradients are not compressed in this edition")
    if update_on_kvstore:
        raise ValueError("update_on_kvstore=True: updates are made on the devices in this edition")
