"""A module knows its inputs, its outputs and the gradients of its inputs: enough to put modules in a row, and to write one in Python."""

# Written from chapters/89a_chains_of_modules.ipynb: edit the chapter, then run `minigluon export`.

import logging

from minigluon.module.executor_group import DataParallelExecutorGroup
from minigluon.module.module import mean_of

__all__ = ["DataParallelExecutorManager"]


# --- Chains of modules ----------------------------------------------------------------------------


def _split_input_slice(batch_size, work_load_list):
    """For each device the slice of a batch that its share of the work takes;
    ValueError if one gets nothing.
    """
    total, found, begin = sum(work_load_list), [], 0
    counts = [round(load * batch_size / total) for load in work_load_list]
    counts[-1] += max(batch_size - sum(counts), 0)
    for count in counts:
        begin = min(begin, batch_size)
        end = min(begin + count, batch_size)
        if begin >= end:
            raise ValueError("Too many slices. Some splits are empty.")
        found.append(slice(begin, end))
        begin = end
    return found


def _check_arguments(symbol):
    """Raise ValueError where two arguments, or two states, of a graph have one name."""
    for names in (symbol.list_arguments(), symbol.list_auxiliary_states()):
        twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
        if twice:
            raise ValueError(f"Find duplicated argument name {twice[0]!r}: each needs its own")


class DataParallelExecutorManager:
    """Executors of one graph, one a device, for the batches of `train_data`:
    what trained before there were modules.

    With `sym_gen`, a function of a bucket's key, each bucket has a graph of its own.
    """

    def __init__(
        self,
        symbol,
        ctx,
        train_data,
        arg_names,
        param_names,
        aux_names,
        work_load_list=None,
        logger=None,
        sym_gen=None,
    ):
        (logger or logging).info("Start training with %s", ctx)
        self.work_load_list = [1] * len(ctx) if work_load_list is None else work_load_list
        assert len(self.work_load_list) == len(ctx), "work_load_list needs a number for each device"
        self.slices = _split_input_slice(train_data.batch_size, self.work_load_list)
        self.symbol, self.ctx, self.sym_gen = symbol, ctx, sym_gen
        self.arg_names, self.param_names, self.aux_names = arg_names, param_names, aux_names
        self.execgrp, self.curr_execgrp = self._group(symbol, train_data), None
        if sym_gen is not None:
            self.execgrp_bucket = {train_data.default_bucket_key: self.execgrp}

    def _group(self, symbol, data, shared=None):
        """The executors of a graph for batches like `data`."""
        described = data.provide_data, data.provide_label
        settings = self.param_names, True, False, shared
        return DataParallelExecutorGroup(
            symbol, self.ctx, self.work_load_list, *described, *settings
        )

    param_arrays = property(lambda self: self.execgrp.param_arrays, doc="Of each name, by device.")
    grad_arrays = property(lambda self: self.execgrp.grad_arrays, doc="Gradients of parameters.")
    aux_arrays = property(lambda self: self.execgrp.aux_arrays, doc="Running statistics.")

    # --- Chains of modules ------------------------------------------------------------------------

    def install_monitor(self, monitor):
        """Let a monitor hear of every operator's output."""
        if self.sym_gen is not None:
            raise NotImplementedError("install_monitor: no monitor hears of several buckets")
        self.execgrp.install_monitor(monitor)

    def set_params(self, arg_params, aux_params):
        """Write arrays into the parameters of their names, on all devices."""
        self.execgrp.set_params(arg_params, aux_params)

    def copy_to(self, arg_params, aux_params):
        """Write the parameters, means over the devices, into the arrays of two dictionaries."""
        for names, own, given in (
            (self.param_names, self.param_arrays, arg_params),
            (self.aux_names, self.aux_arrays, aux_params),
        ):
            for name, arrays in zip(names, own):
                mean_of(arrays).astype(given[name].dtype).copyto(given[name])

    def load_data_batch(self, data_batch):
        """Take the batch that `forward` will run on."""
        self.curr_execgrp, self._batch = self.execgrp, data_batch
        if self.sym_gen is not None:
            key = data_batch.bucket_key
            if key not in self.execgrp_bucket:
                found = self._group(self.sym_gen(key), data_batch, self.execgrp)
                self.execgrp_bucket[key] = found
            self.curr_execgrp = self.execgrp_bucket[key]

    def forward(self, is_train=False):
        """Run the graph on the batch that was loaded."""
        self.curr_execgrp.forward(self._batch, is_train=is_train)

    def backward(self):
        """Compute all gradients."""
        self.curr_execgrp.backward()

    def update_metric(self, metric, labels, pre_sliced=False):
        """Update a metric by labels and the last outputs."""
        self.curr_execgrp.update_metric(metric, labels, pre_sliced)
