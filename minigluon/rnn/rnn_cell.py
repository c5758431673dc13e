"""A cell that is given symbols instead of arrays writes down one step; unrolled, it writes down the whole sentence."""

# Written from chapters/89b_symbolic_cells.ipynb: edit the chapter, then run `minigluon export`.

import math

import minigluon.ndarray as nd
import minigluon.symbol as sym
from minigluon.initializer import FusedRNN, LSTMBias
from minigluon.symbol.symbol import Symbol

__all__ = [
    "BaseConvRNNCell",
    "BaseRNNCell",
    "BidirectionalCell",
    "ConvGRUCell",
    "ConvLSTMCell",
    "ConvRNNCell",
    "DropoutCell",
    "FusedRNNCell",
    "GATES",
    "GRUCell",
    "GatedCell",
    "LSTMCell",
    "ModifierCell",
    "RNNCell",
    "RNNParams",
    "ResidualCell",
    "SequentialRNNCell",
    "Several",
    "ZoneoutCell",
    "convolved",
    "leaky",
    "normalized",
    "zoned",
]


# --- Recurrent networks as graphs -----------------------------------------------------------------


class RNNParams:
    """Variables by name, made on first use: what cells with equal weights share."""

    def __init__(self, prefix=""):
        self._prefix, self._params = prefix, {}

    def get(self, name, **kwargs):
        """The variable `prefix + name`; `kwargs` are its attributes if it is new."""
        name = self._prefix + name
        if name not in self._params:
            self._params[name] = sym.Variable(name, **kwargs)
        return self._params[name]


def normalized(length, inputs, layout, merge, in_layout=None):
    """A sequence as one symbol in `layout` (`merge` True), as a list of steps (False),
    or as it is (None); and its time axis.
    """
    axis = layout.find("T")
    in_axis = axis if in_layout is None else in_layout.find("T")
    if isinstance(inputs, Symbol):
        if merge is False:
            assert len(inputs.list_outputs()) == 1, "unroll takes one symbol, or a list of steps"
            inputs = list(
                sym.SliceChannel(inputs, axis=in_axis, num_outputs=length, squeeze_axis=1)
            )
    else:
        assert length is None or len(inputs) == length, f"{len(inputs)} steps, but length={length}"
        if merge is True:
            steps = [sym.expand_dims(step, axis=axis) for step in inputs]
            inputs, in_axis = sym.Concat(*steps, dim=axis), axis
    if isinstance(inputs, Symbol) and axis != in_axis:
        inputs = sym.swapaxes(inputs, dim1=axis, dim2=in_axis)
    return inputs, axis


class BaseRNNCell:
    """One step of a recurrent network on symbols: `output, states = cell(inputs, states)`."""

    _gate_names = ()

    def __init__(self, prefix="", params=None):
        self._own_params = params is None
        self._prefix, self._params = prefix, RNNParams(prefix) if params is None else params
        self._modified = False
        self.reset()

    def reset(self):
        """Begin to count steps, and first states, anew."""
        self._init_counter = self._counter = -1
        for cell in getattr(self, "_cells", ()):
            cell.reset()

    def __call__(self, inputs, states):
        raise NotImplementedError

    def _step(self):
        """The beginning of the names of the next step."""
        self._counter += 1
        return f"{self._prefix}t{self._counter}_"

    @property
    def params(self):
        """The variables; asked for, they may be shared."""
        self._own_params = False
        return self._params

    @property
    def state_info(self):
        """Shape and layout of each state; the batch is 0."""
        raise NotImplementedError

    @property
    def _num_gates(self):
        return len(self._gate_names)

    @property
    def state_shape(self):
        """Shapes of the states."""
        return [info["shape"] for info in self.state_info]

    def begin_state(self, func=sym.zeros, **kwargs):
        """The first states, made by `func(name=…, shape=…, **kwargs)`."""
        assert not self._modified, (
            "After applying modifier cells (e.g. DropoutCell) the base cell cannot be called directly: "
            "call the modifier cell instead"
        )
        states = []
        for info in self.state_info:
            self._init_counter += 1
            name = f"{self._prefix}begin_state_{self._init_counter}"
            states.append(func(name=name, **{**kwargs, **(info or {})}))
        return states

    # --- Recurrent networks as graphs -------------------------------------------------------------

    def _names(self):
        """(packed name, [names of its gates]) of each parameter that has gates."""
        for group in ("i2h", "h2h"):
            for kind in ("weight", "bias"):
                parts = [f"{self._prefix}{group}{gate}_{kind}" for gate in self._gate_names]
                yield f"{self._prefix}{group}_{kind}", parts

    def unpack_weights(self, args):
        """The parameters with one array a gate in the place of each packed one."""
        args = dict(args)
        for packed, parts in self._names() if self._gate_names else ():
            whole, h = args.pop(packed), self._num_hidden
            args |= {part: whole[j * h : (j + 1) * h].copy() for j, part in enumerate(parts)}
        return args

    def pack_weights(self, args):
        """The inverse of `unpack_weights`."""
        args = dict(args)
        for packed, parts in self._names() if self._gate_names else ():
            args[packed] = nd.concatenate([args.pop(part) for part in parts])
        return args

    def unroll(self, length, inputs, begin_state=None, layout="NTC", merge_outputs=None):
        """Outputs and last states of `length` steps;
        the outputs are one symbol if `merge_outputs`, else a list.
        """
        self.reset()
        inputs, _ = normalized(length, inputs, layout, False)
        states = self.begin_state() if begin_state is None else begin_state
        outputs = []
        for step in inputs:
            output, states = self(step, states)
            outputs.append(output)
        return normalized(length, outputs, layout, merge_outputs)[0], states

    def _get_activation(self, inputs, activation, **kwargs):
        """The activation that a name or a function stands for, applied."""
        if isinstance(activation, str):
            return sym.Activation(inputs, act_type=activation, **kwargs)
        return activation(inputs, **kwargs)


class GatedCell(BaseRNNCell):
    """A cell with one product of the inputs and one of the last output, for all its gates."""

    _states, _activation, _split = 1, "tanh", {}  # `_split` says where the gates lie side by side

    def __init__(self, num_hidden, prefix, params=None, **initializers):
        super().__init__(prefix=prefix, params=params)
        self._num_hidden = num_hidden
        notes = {name: {"init": init} for name, init in initializers.items() if init}
        self._iW, self._iB, self._hW, self._hB = (
            self._params.get(name, **notes.get(name, {}))
            for name in ("i2h_weight", "i2h_bias", "h2h_weight", "h2h_bias")
        )

    @property
    def state_info(self):
        """Shape and layout of each state; the batch is 0."""
        return [{"shape": (0, self._num_hidden), "__layout__": "NC"}] * self._states

    def _sums(self, inputs, h, name):
        """Both products, with their biases."""
        width = self._num_hidden * len(self._gate_names)
        i2h = sym.FullyConnected(inputs, self._iW, self._iB, num_hidden=width, name=f"{name}i2h")
        return i2h, sym.FullyConnected(h, self._hW, self._hB, num_hidden=width, name=f"{name}h2h")


class RNNCell(GatedCell):
    """A plain step, act(W x + b + U h + c)."""

    _gate_names = ("",)

    def __init__(self, num_hidden, activation="tanh", prefix="rnn_", params=None):
        super().__init__(num_hidden, prefix, params)
        self._activation = activation

    def __call__(self, inputs, states):
        name = self._step()
        i2h, h2h = self._sums(inputs, states[0], name)
        output = self._get_activation(i2h + h2h, self._activation, name=f"{name}out")
        return output, [output]


class LSTMCell(GatedCell):
    """A long short-term memory step; its forget gate begins with the bias `forget_bias`."""

    _gate_names, _states = ("_i", "_f", "_c", "_o"), 2

    def __init__(self, num_hidden, prefix="lstm_", params=None, forget_bias=1.0):
        super().__init__(num_hidden, prefix, params, i2h_bias=LSTMBias(forget_bias=forget_bias))

    def __call__(self, inputs, states):
        name = self._step()
        i2h, h2h = self._sums(inputs, states[0], name)
        i, f, c, o = sym.SliceChannel(i2h + h2h, num_outputs=4, name=f"{name}slice", **self._split)
        i, f, o = (
            sym.Activation(gate, act_type="sigmoid", name=name + letter)
            for gate, letter in ((i, "i"), (f, "f"), (o, "o"))
        )
        c = self._get_activation(c, self._activation, name=f"{name}c")
        c = sym.elemwise_add(f * states[1], i * c, name=f"{name}state")
        h = sym.elemwise_mul(o, self._get_activation(c, self._activation), name=f"{name}out")
        return h, [h, c]


class GRUCell(GatedCell):
    """A gated recurrent step; the reset gate applies to the product of the last output."""

    _gate_names = ("_r", "_z", "_o")

    def __init__(self, num_hidden, prefix="gru_", params=None):
        super().__init__(num_hidden, prefix, params)

    def __call__(self, inputs, states):
        name = self._step()
        i2h, h2h = self._sums(inputs, states[0], name)
        ri, zi, ni = sym.SliceChannel(i2h, num_outputs=3, name=f"{name}i2h_slice", **self._split)
        rh, zh, nh = sym.SliceChannel(h2h, num_outputs=3, name=f"{name}h2h_slice", **self._split)
        r = sym.Activation(ri + rh, act_type="sigmoid", name=f"{name}r_act")
        z = sym.Activation(zi + zh, act_type="sigmoid", name=f"{name}z_act")
        n = self._get_activation(ni + r * nh, self._activation, name=f"{name}h_act")
        h = sym.elemwise_add((1.0 - z) * n, z * states[0], name=f"{name}out")
        return h, [h]


class BaseConvRNNCell(GatedCell):
    """A cell whose products are convolutions over `input_shape`, (batch, channels, height, width);
    states keep their size.

    Source: Shi et al., Convolutional LSTM Network, 2015.
    """

    def __init__(
        self,
        input_shape,
        num_hidden,
        h2h_kernel,
        h2h_dilate,
        i2h_kernel,
        i2h_stride,
        i2h_pad,
        i2h_dilate,
        i2h_weight_initializer,
        h2h_weight_initializer,
        i2h_bias_initializer,
        h2h_bias_initializer,
        activation,
        prefix="",
        params=None,
        conv_layout="NCHW",
    ):
        GatedCell.__init__(
            self,
            *(num_hidden, prefix, params),
            i2h_weight=i2h_weight_initializer,
            h2h_weight=h2h_weight_initializer,
            i2h_bias=i2h_bias_initializer,
            h2h_bias=h2h_bias_initializer,
        )
        assert all(k % 2 for k in h2h_kernel), (
            f"Only support odd number, get h2h_kernel= {h2h_kernel}"
        )
        self._activation, self._conv_layout = activation, conv_layout
        self._split = {} if conv_layout == "NCHW" else {"axis": conv_layout.find("C")}
        self._i2h = {
            "kernel": i2h_kernel,
            "stride": i2h_stride,
            "pad": i2h_pad,
            "dilate": i2h_dilate,
        }
        pad = tuple(d * (k - 1) // 2 for d, k in zip(h2h_dilate, h2h_kernel))  # as large as before
        self._h2h = {"kernel": h2h_kernel, "dilate": h2h_dilate, "pad": pad, "stride": (1, 1)}
        first = sym.Convolution(
            sym.var("data"), num_filter=num_hidden, layout=conv_layout, **self._i2h
        )
        self._state_shape = (0, *first.infer_shape(data=input_shape)[1][0][1:])

    # --- Recurrent networks as graphs -------------------------------------------------------------

    @property
    def state_info(self):
        """Shape and layout of each state; the batch is 0."""
        return [{"shape": self._state_shape, "__layout__": self._conv_layout}] * self._states

    def _sums(self, inputs, h, name):
        """Both convolutions, with their biases."""
        same = {"num_filter": self._num_hidden * len(self._gate_names), "layout": self._conv_layout}
        return (
            sym.Convolution(inputs, self._iW, self._iB, name=f"{name}i2h", **same, **self._i2h),
            sym.Convolution(h, self._hW, self._hB, name=f"{name}h2h", **same, **self._h2h),
        )


def leaky(inputs, **kwargs):
    """The activation of convolutional cells by default."""
    return sym.LeakyReLU(inputs, act_type="leaky", slope=0.2, **kwargs)


def convolved(name, cell, prefix):
    """The cell over pictures that steps as `cell` does; its arguments are those of `BaseConvRNNCell`."""

    def __init__(
        self,
        input_shape,
        num_hidden,
        h2h_kernel=(3, 3),
        h2h_dilate=(1, 1),
        i2h_kernel=(3, 3),
        i2h_stride=(1, 1),
        i2h_pad=(1, 1),
        i2h_dilate=(1, 1),
        i2h_weight_initializer=None,
        h2h_weight_initializer=None,
        i2h_bias_initializer="zeros",
        h2h_bias_initializer="zeros",
        activation=leaky,
        prefix=prefix,
        params=None,
        conv_layout="NCHW",
    ):
        given = {k: v for k, v in locals().items() if k != "self"}
        BaseConvRNNCell.__init__(self, **given)

    made = type(name, (BaseConvRNNCell, cell), {"__init__": __init__, "__module__": __name__})
    made.__doc__ = (
        f"The step of `{cell.__name__}` over pictures: `BaseConvRNNCell` tells its arguments."
    )
    return made


ConvRNNCell = convolved("ConvRNNCell", RNNCell, "ConvRNN_")
ConvLSTMCell = convolved("ConvLSTMCell", LSTMCell, "ConvLSTM_")
ConvGRUCell = convolved("ConvGRUCell", GRUCell, "ConvGRU_")


GATES = {"rnn_relu": ("",), "rnn_tanh": ("",), "lstm": LSTMCell._gate_names}
GATES |= {"gru": GRUCell._gate_names}


class FusedRNNCell(BaseRNNCell):
    """A stack of `num_layers` recurrent layers as one operator;
    `mode` is rnn_relu, rnn_tanh, lstm or gru.
    """

    def __init__(
        self,
        num_hidden,
        num_layers=1,
        mode="lstm",
        bidirectional=False,
        dropout=0.0,
        get_next_state=False,
        forget_bias=1.0,
        prefix=None,
        params=None,
    ):
        super().__init__(prefix=f"{mode}_" if prefix is None else prefix, params=params)
        self._num_hidden, self._num_layers, self._mode = num_hidden, num_layers, mode
        self._bidirectional, self._dropout = bidirectional, dropout
        self._get_next_state = get_next_state
        self._directions = ["l", "r"] if bidirectional else ["l"]
        start = FusedRNN(None, num_hidden, num_layers, mode, bidirectional, forget_bias)
        self._parameter = self._params.get("parameters", init=start)

    # Where each array lies in the vector.

    @property
    def state_info(self):
        """Shape and layout of each state; the batch is 0."""
        layers = self._num_layers * len(self._directions)
        info = {"shape": (layers, 0, self._num_hidden), "__layout__": "LNC"}
        return [info] * (2 if self._mode == "lstm" else 1)

    @property
    def _gate_names(self):
        return GATES[self._mode]

    def _slice_weights(self, arr, li, lh):
        """{name: its part of the vector} for inputs of `li` and outputs of `lh` numbers."""
        stacks = [(d, n) for n in range(self._num_layers) for d in self._directions]
        parts, p = {}, 0
        for kind in ("weight", "bias"):
            for direction, layer in stacks:
                width = len(self._directions) * lh if layer else li
                for group, columns in (("i2h", width), ("h2h", lh)):
                    for gate in self._gate_names:
                        shape = (lh, columns) if kind == "weight" else (lh,)
                        size = math.prod(shape)
                        name = f"{self._prefix}{direction}{layer}_{group}{gate}_{kind}"
                        parts[name] = arr[p : p + size].reshape(shape)
                        p += size
        assert p == arr.size, f"{arr.size} numbers, but the layers have {p}"
        return parts

    # --- Recurrent networks as graphs -------------------------------------------------------------

    def unpack_weights(self, args):
        """The parameters with one array a layer, direction and gate in the place of the vector."""
        args = dict(args)
        arr, h = args.pop(self._parameter.name), self._num_hidden
        b, m = len(self._directions), self._num_gates
        width = arr.size // b // h // m - (self._num_layers - 1) * (h + b * h + 2) - h - 2
        return args | {n: a.copy() for n, a in self._slice_weights(arr, width, h).items()}

    def pack_weights(self, args):
        """The inverse of `unpack_weights`."""
        args, h = dict(args), self._num_hidden
        first = args[f"{self._prefix}l0_i2h{self._gate_names[0]}_weight"]
        b, m, width = len(self._directions), self._num_gates, first.shape[1]
        total = (width + h + 2) * h * m * b + (self._num_layers - 1) * m * h * (h + b * h + 2) * b
        arr = nd.zeros((total,), ctx=first.context, dtype=first.dtype)
        for name, part in self._slice_weights(arr, width, h).items():
            part[:] = args.pop(name)
        return args | {self._parameter.name: arr}

    def __call__(self, inputs, states):
        raise NotImplementedError("FusedRNNCell cannot be stepped. Please use unroll")

    def unroll(self, length, inputs, begin_state=None, layout="NTC", merge_outputs=None):
        """Outputs and last states; states only where `get_next_state`, else an empty list."""
        self.reset()
        inputs, axis = normalized(length, inputs, layout, True)
        inputs = sym.swapaxes(inputs, dim1=0, dim2=1) if axis == 1 else inputs
        states = self.begin_state() if begin_state is None else begin_state
        found = sym.RNN(
            inputs,
            self._parameter,
            *states,
            state_size=self._num_hidden,
            num_layers=self._num_layers,
            bidirectional=self._bidirectional,
            p=self._dropout,
            state_outputs=self._get_next_state,
            mode=self._mode,
            name=f"{self._prefix}rnn",
        )
        if self._get_next_state:
            found[0]._set_attr(__layout__="LNC")
        outputs, *states = list(found) if self._get_next_state else [found]
        outputs = sym.swapaxes(outputs, dim1=0, dim2=1) if axis == 1 else outputs
        return normalized(length, outputs, layout, merge_outputs)[0], states

    # The same network from cells.

    def unfuse(self):
        """The same network as a `SequentialRNNCell`, with the names of the unpacked weights."""
        stack, prefix = SequentialRNNCell(), self._prefix
        kinds = {"lstm": LSTMCell, "gru": GRUCell}
        for i in range(self._num_layers):
            if self._mode in kinds:
                cells = [
                    kinds[self._mode](self._num_hidden, prefix=f"{prefix}{d}{i}_")
                    for d in self._directions
                ]
            else:
                act = self._mode.removeprefix("rnn_")
                cells = [
                    RNNCell(self._num_hidden, act, f"{prefix}{d}{i}_") for d in self._directions
                ]
            if self._bidirectional:
                cells = [BidirectionalCell(*cells, output_prefix=f"{prefix}bi_l{i}_")]
            stack.add(*cells)
            if self._dropout > 0 and i != self._num_layers - 1:
                stack.add(DropoutCell(self._dropout, prefix=f"{prefix}_dropout{i}_"))
        return stack


class Several(BaseRNNCell):
    """What cells that consist of cells have in common."""

    def __init__(self, cells, params=None):
        super().__init__(prefix="", params=params)
        self._override_cell_params, self._cells = params is not None, []
        for cell in cells:
            self._adopt(cell)

    def _adopt(self, cell):
        """Take a cell in, and share the parameters."""
        self._cells.append(cell)
        if self._override_cell_params:
            assert cell._own_params, "give params to the outer cell or to its parts, not to both"
            cell.params._params.update(self.params._params)
        self.params._params.update(cell.params._params)

    @property
    def state_info(self):
        """Shape and layout of each state; the batch is 0."""
        return [info for cell in self._cells for info in cell.state_info]

    def begin_state(self, **kwargs):
        """The first states of all cells."""
        assert not self._modified, "the base cell of a modifier cannot be called directly"
        return [state for cell in self._cells for state in cell.begin_state(**kwargs)]

    def unpack_weights(self, args):
        """The parameters with one array a gate."""
        for cell in self._cells:
            args = cell.unpack_weights(args)
        return args

    def pack_weights(self, args):
        """The inverse of `unpack_weights`."""
        for cell in self._cells:
            args = cell.pack_weights(args)
        return args

    def _divided(self, states):
        """Pairs (cell, its states)."""
        states = list(states)
        for cell in self._cells:
            n = len(cell.state_info)
            yield cell, states[:n]
            states = states[n:]


class SequentialRNNCell(Several):
    """Cells one above the other."""

    def __init__(self, params=None):
        super().__init__((), params)

    def add(self, cell):
        """Put a cell on top."""
        self._adopt(cell)

    def __call__(self, inputs, states):
        self._counter += 1
        found = []
        for cell, own in self._divided(states):
            assert not isinstance(cell, BidirectionalCell), "a BidirectionalCell is not stepped"
            inputs, own = cell(inputs, own)
            found += own
        return inputs, found

    def unroll(self, length, inputs, begin_state=None, layout="NTC", merge_outputs=None):
        """Outputs of the top cell and last states of all."""
        self.reset()
        states = self.begin_state() if begin_state is None else begin_state
        found = []
        for cell, own in self._divided(states):
            merge = merge_outputs if cell is self._cells[-1] else None
            inputs, own = cell.unroll(length, inputs, own, layout, merge)
            found += own
        return inputs, found


class BidirectionalCell(Several):
    """A cell that reads forwards and one that reads backwards, side by side; it can only be unrolled."""

    def __init__(self, l_cell, r_cell, params=None, output_prefix="bi_"):
        super().__init__((l_cell, r_cell), params)
        self._output_prefix = output_prefix

    def __call__(self, inputs, states):
        raise NotImplementedError("Bidirectional cannot be stepped. Please use unroll")

    def unroll(self, length, inputs, begin_state=None, layout="NTC", merge_outputs=None):
        """Outputs of both, joined, and last states of both, a list for each."""
        self.reset()
        inputs, axis = normalized(length, inputs, layout, False)
        states = self.begin_state() if begin_state is None else begin_state
        (left, l_begin), (right, r_begin) = self._divided(states)
        ls, l_states = left.unroll(length, inputs, l_begin, layout, merge_outputs)
        rs, r_states = right.unroll(length, inputs[::-1], r_begin, layout, merge_outputs)
        merge = merge_outputs
        if merge is None:
            merge = isinstance(ls, Symbol) and isinstance(rs, Symbol)
            ls, rs = (normalized(None, s, layout, merge)[0] for s in (ls, rs))
        name = self._output_prefix
        if merge:
            outputs = sym.Concat(ls, sym.reverse(rs, axis=axis), dim=2, name=f"{name}out")
        else:
            pairs = enumerate(zip(ls, reversed(rs)))
            outputs = [sym.Concat(a, b, dim=1, name=f"{name}t{t}") for t, (a, b) in pairs]
        return outputs, [l_states, r_states]


class DropoutCell(BaseRNNCell):
    """Dropout of the inputs, in every step."""

    def __init__(self, dropout, prefix="dropout_", params=None):
        super().__init__(prefix, params)
        self.dropout = dropout

    state_info = []

    def __call__(self, inputs, states):
        if self.dropout > 0:
            inputs = sym.Dropout(inputs, p=self.dropout)
        return inputs, states

    def unroll(self, length, inputs, begin_state=None, layout="NTC", merge_outputs=None):
        """The sequence with dropout; a symbol in one call."""
        self.reset()
        inputs, _ = normalized(length, inputs, layout, merge_outputs)
        if isinstance(inputs, Symbol):
            return self(inputs, [])
        return super().unroll(length, inputs, begin_state, layout, merge_outputs)


class ModifierCell(BaseRNNCell):
    """A cell that changes what its `base_cell` does."""

    def __init__(self, base_cell):
        base_cell._modified = True
        self.base_cell = base_cell
        super().__init__()

    params = property(lambda self: self.base_cell.params, doc="The variables of the base cell.")
    state_info = property(lambda self: self.base_cell.state_info, doc="Those of the base cell.")

    def reset(self):
        """Begin to count anew."""
        super().reset()
        self.base_cell.reset()

    def begin_state(self, init_sym=sym.zeros, **kwargs):
        """The first states of the base cell."""
        assert not self._modified, "the base cell of a modifier cannot be called directly"
        self.base_cell._modified = False
        begin = self.base_cell.begin_state(**{"func": init_sym, **kwargs})
        self.base_cell._modified = True
        return begin

    def unpack_weights(self, args):
        """The parameters with one array a gate."""
        return self.base_cell.unpack_weights(args)

    def pack_weights(self, args):
        """The inverse of `unpack_weights`."""
        return self.base_cell.pack_weights(args)


class ZoneoutCell(ModifierCell):
    """Keeps each number of the last output, or state, with a probability."""

    def __init__(self, base_cell, zoneout_outputs=0.0, zoneout_states=0.0):
        assert not isinstance(base_cell, FusedRNNCell), "unfuse the FusedRNNCell first"
        assert not isinstance(base_cell, BidirectionalCell), "zone out the parts of the pair"
        super().__init__(base_cell)
        self.zoneout_outputs, self.zoneout_states = zoneout_outputs, zoneout_states

    def reset(self):
        """Begin anew: there is no last output."""
        super().reset()
        self.prev_output = None

    def __call__(self, inputs, states):
        output, found = self.base_cell(inputs, states)
        last = self.prev_output if self.prev_output is not None else sym.zeros_like(output)
        output = zoned(self.zoneout_outputs, output, last)
        self.prev_output = output
        return output, [zoned(self.zoneout_states, new, old) for new, old in zip(found, states)]


def zoned(p, new, old):
    """`new`, but each number of `old` with the probability `p`."""
    return sym.where(sym.Dropout(sym.ones_like(new), p=p), new, old) if p else new


class ResidualCell(ModifierCell):
    """Adds the inputs to the outputs, which have one shape."""

    def __call__(self, inputs, states):
        output, states = self.base_cell(inputs, states)
        return sym.elemwise_add(output, inputs, name=f"{output.name}_plus_residual"), states

    def unroll(self, length, inputs, begin_state=None, layout="NTC", merge_outputs=None):
        """Outputs of the base cell plus inputs, and its states."""
        self.reset()
        self.base_cell._modified = False
        outputs, states = self.base_cell.unroll(length, inputs, begin_state, layout, merge_outputs)
        self.base_cell._modified = True
        merge = isinstance(outputs, Symbol) if merge_outputs is None else merge_outputs
        inputs, _ = normalized(length, inputs, layout, merge)
        if merge:
            name = f"{outputs.name}_plus_residual"
            return sym.elemwise_add(outputs, inputs, name=name), states
        return [
            sym.elemwise_add(o, i, name=f"{o.name}_plus_residual") for o, i in zip(outputs, inputs)
        ], states
