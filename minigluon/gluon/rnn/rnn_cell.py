"""A cell is one step of a recurrent network: an input and a state in, an output and the next state out."""

# Written from chapters/60_cells.ipynb: edit the chapter, then run `minigluon export`.

import minigluon.ndarray as nd
import minigluon.symbol as sym
from minigluon.gluon.block import Block, HybridBlock, Outline
from minigluon.ndarray.ndarray import NDArray
from minigluon.numpy.scope import is_np_array
from minigluon.symbol.symbol import Symbol

__all__ = [
    "ARRAYS",
    "BidirectionalCell",
    "CALLED",
    "DropoutCell",
    "GRUCell",
    "GatedCell",
    "HybridRecurrentCell",
    "HybridSequentialRNNCell",
    "LSTMCell",
    "ModifierCell",
    "NAMES",
    "RNNCell",
    "RecurrentCell",
    "ResidualCell",
    "SequentialRNNCell",
    "Stack",
    "ZoneoutCell",
    "face_of",
    "first_state",
    "format_sequence",
    "last_valid",
    "made",
    "mask_sequence",
    "parts",
    "reverse_sequences",
    "settled",
    "split_in_time",
    "zoned",
]


# --- Sequences in and out -------------------------------------------------------------------------

ARRAYS = (NDArray, Symbol, Outline)
CALLED = "the base cell cannot be called directly. Call the modifier cell instead."


def face_of(x):
    """The namespace of operators for what `x` is: `mx.sym` or `mx.nd`."""
    return sym if isinstance(x, Symbol) else nd


def parts(F, x, number, axis):
    """An array cut along an axis into a list of `number` arrays without that axis."""
    found = F.split(x, axis=axis, num_outputs=number, squeeze_axis=True)
    return list(found) if number > 1 or isinstance(found, list | Symbol) else [found]


def format_sequence(length, inputs, layout, merge, in_layout=None):
    """The inputs merged, in a list, or (merge=None) as they are; axis of time, face, batch size."""
    assert inputs is not None, (
        "unroll(inputs=None) has been deprecated. Please create input variables outside unroll."
    )
    axis, in_axis = layout.find("T"), (in_layout or layout).find("T")
    one = isinstance(inputs, ARRAYS)
    first = inputs if one else inputs[0]
    F, batch = face_of(first), 0
    if F is nd:
        batch = first.shape[layout.find("N") if one else 0]
    if not one:
        assert length is None or len(inputs) == length, f"{len(inputs)} inputs for {length} steps"
        if merge:
            inputs, in_axis = F.stack(*inputs, axis=axis), axis
    elif merge is False:
        inputs = split_in_time(F, length, inputs, in_axis)
    if isinstance(inputs, ARRAYS) and axis != in_axis:
        inputs = F.swapaxes(inputs, dim1=axis, dim2=in_axis)
    return inputs, axis, F, batch


def split_in_time(F, length, inputs, axis):
    """The steps of one array as a list."""
    if F is nd:
        steps = inputs.shape[axis]
        assert length is None or length == steps, f"{steps} steps in the inputs, not {length}"
        return parts(F, inputs, steps, axis)
    assert len(inputs) == 1, (
        "unroll doesn't allow grouped symbol as input. Please convert to list with list(inputs) first "
        "or let unroll handle splitting."
    )
    return parts(F, inputs, length, axis)


def first_state(cell, F, begin_state, inputs, batch):
    """The given states, or those that the cell begins with."""
    if begin_state is not None:
        return begin_state
    if F is sym:
        return cell.begin_state(func=sym.zeros, batch_size=batch)
    one = inputs if isinstance(inputs, ARRAYS) else inputs[0]
    if isinstance(one, Outline):
        return [Outline(info["shape"], one.dtype) for info in cell.state_info(batch)]
    return cell.begin_state(func=nd.zeros, batch_size=batch, ctx=one.context, dtype=one.dtype)


def settled(state, inputs):
    """A symbol of zeros whose batch size is not known, as zeros of the batch size of `inputs`."""
    node = state._entries[0][0] if isinstance(state, Symbol) else None
    shape = node.settings.get("shape") if node is not None and node.op is not None else None
    if shape is None or node.op.name != "_zeros" or shape[0] != 0:
        return state
    column = sym.sum(sym.zeros_like(inputs), axis=0, exclude=True, keepdims=True)
    axes = tuple(range(1, len(shape)))
    return sym.broadcast_axis(column, axis=axes, size=tuple(shape[1:]))


def mask_sequence(F, data, length, valid_length, axis, merge):
    """The outputs with zeros behind the ends of the sequences, merged or as a list."""
    if not isinstance(data, ARRAYS):
        data = F.stack(*data, axis=axis)
    out = F.SequenceMask(data, sequence_length=valid_length, use_sequence_length=True, axis=axis)
    return out if merge else parts(F, out, length, axis)


def reverse_sequences(F, sequences, length, valid_length=None):
    """A list of steps backwards in time, each sequence within its own length."""
    if valid_length is None:
        return list(reversed(sequences))
    whole = F.stack(*sequences, axis=0)
    turned = F.SequenceReverse(whole, sequence_length=valid_length, use_sequence_length=True)
    return parts(F, turned, length, 0)


# under these names cells written elsewhere import them
_format_sequence, _get_begin_state = format_sequence, first_state
_mask_sequence_variable_length = mask_sequence


def made(func, name, info):
    """A state by `func`; for functions of symbols the layout is an attribute, and draws have no name."""
    if func in (sym.zeros, sym.ones):
        info = dict(info)
        layout = info.pop("__layout__", None)
        info["attr"] = {"__layout__": layout} if layout else None
    elif getattr(func, "__module__", "") == "minigluon.random":
        return func(**{k: v for k, v in info.items() if k != "__layout__"})
    state = func(name=name, **info)
    return state.as_np_ndarray() if is_np_array() and type(state) is NDArray else state


# --- The cell -------------------------------------------------------------------------------------


class RecurrentCell(Block):
    """One step of a recurrent network, `output, states = cell(input, states)`."""

    def __init__(self, prefix=None, params=None):
        super().__init__(prefix=prefix, params=params)
        self._modified = False
        self.reset()

    def reset(self):
        """Begin a new sequence: count the steps from 0."""
        self._init_counter = self._counter = -1
        for cell in self._children.values():
            cell.reset()

    def state_info(self, batch_size=0):
        """Shapes and layouts of the states: a list of dictionaries."""
        raise NotImplementedError

    def begin_state(self, batch_size=0, func=nd.zeros, **kwargs):
        """The first states, made by `func(name=…, shape=…, …)`, as a list."""
        assert not self._modified, f"After applying modifier cells (e.g. ZoneoutCell) {CALLED}"
        states = []
        for info in self.state_info(batch_size):
            self._init_counter += 1
            name = f"{self._prefix}begin_state_{self._init_counter}"
            states.append(made(func, name, {**(info or {}), **kwargs}))
        return states

    # --- The cell ---------------------------------------------------------------------------------

    def unroll(
        self, length, inputs, begin_state=None, layout="NTC", merge_outputs=None, valid_length=None
    ):
        """Outputs and last states of `length` steps.

        inputs: an array in `layout`, or a list of steps (N, C); the outputs are one array or a list as
        `merge_outputs` says. valid_length: (N,), the steps that count; behind them outputs are 0.
        """
        self.reset()
        inputs, axis, F, batch = format_sequence(length, inputs, layout, False)
        states = first_state(self, F, begin_state, inputs, batch)
        outputs, history = [], []
        for i in range(length):
            output, states = self(inputs[i], states)
            outputs.append(output)
            history.append(states)
        if valid_length is not None:
            states = [last_valid(F, steps, valid_length) for steps in zip(*history)]
            outputs = mask_sequence(F, outputs, length, valid_length, axis, True)
        return format_sequence(length, outputs, layout, merge_outputs)[0], states

    def forward(self, inputs, states):
        self._counter += 1
        if isinstance(inputs, Symbol):
            states = [settled(s, inputs) for s in states]
        return super().forward(inputs, states)

    def _get_activation(self, F, inputs, activation, **kwargs):
        """The activation that a name or a block stands for, applied."""
        if activation in ("tanh", "relu", "sigmoid", "softsign"):
            return getattr(F, activation)(inputs, **kwargs)
        if isinstance(activation, str):
            return F.Activation(inputs, act_type=activation, **kwargs)
        return activation(inputs)


def last_valid(F, steps, valid_length):
    """Of a list of states, one a step, the one at each sequence's end."""
    whole = F.stack(*steps, axis=0)
    return F.SequenceLast(whole, sequence_length=valid_length, use_sequence_length=True, axis=0)


class HybridRecurrentCell(RecurrentCell, HybridBlock):
    """A cell that can be hybridized: it has a `hybrid_forward`."""

    def hybrid_forward(self, F, x, *args, **kwargs):
        raise NotImplementedError


# --- Three cells ----------------------------------------------------------------------------------

NAMES = ("i2h_weight", "h2h_weight", "i2h_bias", "h2h_bias")


class GatedCell(HybridRecurrentCell):
    """What the cells have in common: weights for the input and for the state,
    with `_gates` blocks of rows.
    """

    _gates = 1
    _activation = "tanh"

    def _weights(self, hidden_size, input_size, recurrent_size, *initializers):
        self._hidden_size, self._input_size = hidden_size, input_size
        rows = self._gates * hidden_size
        shapes = ((rows, input_size), (rows, recurrent_size), (rows,), (rows,))
        self._make(zip(NAMES, shapes, initializers))

    def forward(self, inputs, states):
        wanted = len(self.state_info())
        if isinstance(states, NDArray) or (
            isinstance(states, list | tuple) and len(states) != wanted
        ):
            came = f"{len(states)} came" if isinstance(states, list | tuple) else "an array came"
            raise ValueError(
                f"{self.name}: {type(self).__name__} takes a list of {wanted} state(s), {came}; "
                "begin_state(batch_size=…) makes them"
            )
        return super().forward(inputs, states)

    def _make(self, wanted):
        """Make parameters: triples of a name, a shape and an initializer."""
        for name, shape, init in wanted:
            p = self.params.get(name, shape=shape, init=init, allow_deferred_init=True)
            setattr(self, name, p)

    def _shares(self, F, prefix, inputs, h, i2h_weight, h2h_weight, i2h_bias, h2h_bias):
        """What input and state give to the gates."""
        rows = self._gates * self._hidden_size
        i2h = F.FullyConnected(inputs, i2h_weight, i2h_bias, num_hidden=rows, name=prefix + "i2h")
        return i2h, F.FullyConnected(h, h2h_weight, h2h_bias, num_hidden=rows, name=prefix + "h2h")

    def _shown(self, F, x, name):
        """What a state, or a candidate for one, shows."""
        return F.Activation(x, act_type=self._activation, name=name)

    def state_info(self, batch_size=0):
        return [{"shape": (batch_size, self._hidden_size), "__layout__": "NC"}]

    def _mapping(self):
        rows, inputs = self.i2h_weight.shape
        return f"{inputs or None} -> {rows}"

    def __repr__(self):
        return f"{type(self).__name__}({self._mapping()})"


class RNNCell(GatedCell):
    """Elman's cell, $h' = f(W_i x + b_i + W_h h + b_h)$; inputs (N, C), state (N, hidden_size)."""

    def __init__(
        self,
        hidden_size,
        activation="tanh",
        i2h_weight_initializer=None,
        h2h_weight_initializer=None,
        i2h_bias_initializer="zeros",
        h2h_bias_initializer="zeros",
        input_size=0,
        prefix=None,
        params=None,
    ):
        super().__init__(prefix=prefix, params=params)
        self._activation = activation
        weights = i2h_weight_initializer, h2h_weight_initializer
        biases = i2h_bias_initializer, h2h_bias_initializer
        self._weights(hidden_size, input_size, hidden_size, *weights, *biases)

    def _alias(self):
        return "rnn"

    def __repr__(self):
        return f"{type(self).__name__}({self._mapping()}, {self._activation})"

    def hybrid_forward(self, F, inputs, states, i2h_weight, h2h_weight, i2h_bias, h2h_bias):
        t = f"t{self._counter}_"
        i2h, h2h = self._shares(F, t, inputs, states[0], i2h_weight, h2h_weight, i2h_bias, h2h_bias)
        total = F.elemwise_add(i2h, h2h, name=t + "plus0")
        output = self._get_activation(F, total, self._activation, name=t + "out")
        return output, [output]


class LSTMCell(GatedCell):
    """Long short-term memory (Hochreiter and Schmidhuber 1997); gates i, f, g, o; states h and c."""

    _gates = 4

    def __init__(
        self,
        hidden_size,
        i2h_weight_initializer=None,
        h2h_weight_initializer=None,
        i2h_bias_initializer="zeros",
        h2h_bias_initializer="zeros",
        input_size=0,
        prefix=None,
        params=None,
        activation="tanh",
        recurrent_activation="sigmoid",
    ):
        super().__init__(prefix=prefix, params=params)
        self._activation, self._recurrent_activation = activation, recurrent_activation
        weights = i2h_weight_initializer, h2h_weight_initializer
        biases = i2h_bias_initializer, h2h_bias_initializer
        self._weights(hidden_size, input_size, hidden_size, *weights, *biases)

    # --- Three cells ------------------------------------------------------------------------------

    def _alias(self):
        return "lstm"

    def state_info(self, batch_size=0):
        return super().state_info(batch_size) * 2

    def hybrid_forward(self, F, inputs, states, i2h_weight, h2h_weight, i2h_bias, h2h_bias):
        t, h, c = f"t{self._counter}_", *states
        i2h, h2h = self._shares(F, t, inputs, h, i2h_weight, h2h_weight, i2h_bias, h2h_bias)
        gates = F.elemwise_add(i2h, h2h, name=t + "plus0")
        i, f, g, o = F.SliceChannel(gates, num_outputs=4, name=t + "slice")
        i = self._get_activation(F, i, self._recurrent_activation, name=t + "i")
        f = self._get_activation(F, f, self._recurrent_activation, name=t + "f")
        g = self._get_activation(F, g, self._activation, name=t + "c")
        o = self._get_activation(F, o, self._recurrent_activation, name=t + "o")
        kept = F.elemwise_mul(f, c, name=t + "mul0")
        new = F.elemwise_mul(i, g, name=t + "mul1")
        c = F.elemwise_add(kept, new, name=t + "state")
        shown = self._shown(F, c, t + "activation0")
        h = F.elemwise_mul(o, shown, name=t + "out")
        return h, [h, c]


class GRUCell(GatedCell):
    """Gated recurrent unit (Cho et al. 2014), the reset gate after the product as in cuDNN;
    gates r, z, n.
    """

    _gates = 3

    def __init__(
        self,
        hidden_size,
        i2h_weight_initializer=None,
        h2h_weight_initializer=None,
        i2h_bias_initializer="zeros",
        h2h_bias_initializer="zeros",
        input_size=0,
        prefix=None,
        params=None,
    ):
        super().__init__(prefix=prefix, params=params)
        weights = i2h_weight_initializer, h2h_weight_initializer
        biases = i2h_bias_initializer, h2h_bias_initializer
        self._weights(hidden_size, input_size, hidden_size, *weights, *biases)

    def _alias(self):
        return "gru"

    # --- Three cells ------------------------------------------------------------------------------

    def hybrid_forward(self, F, inputs, states, i2h_weight, h2h_weight, i2h_bias, h2h_bias):
        t, h = f"t{self._counter}_", states[0]
        i2h, h2h = self._shares(F, t, inputs, h, i2h_weight, h2h_weight, i2h_bias, h2h_bias)
        ir, iz, i = F.SliceChannel(i2h, num_outputs=3, name=t + "i2h_slice")
        hr, hz, s = F.SliceChannel(h2h, num_outputs=3, name=t + "h2h_slice")
        r = F.elemwise_add(ir, hr, name=t + "plus0")
        r = F.Activation(r, act_type="sigmoid", name=t + "r_act")
        z = F.elemwise_add(iz, hz, name=t + "plus1")
        z = F.Activation(z, act_type="sigmoid", name=t + "z_act")
        n = F.elemwise_add(i, F.elemwise_mul(r, s, name=t + "mul0"), name=t + "plus2")
        n = self._shown(F, n, t + "h_act")
        ones = F.ones_like(z, name=t + "ones_like0")
        new = F.elemwise_mul(F.elemwise_sub(ones, z, name=t + "minus0"), n, name=t + "mul1")
        kept = F.elemwise_mul(z, h, name=t + "mul20")
        h = F.elemwise_add(new, kept, name=t + "out")
        return h, [h]


# --- Cells of cells -------------------------------------------------------------------------------


class Stack:
    """What both kinds of sequential cell can do:
    cells one over the other, with all their states in a row.
    """

    def add(self, cell):
        """Put a cell on top."""
        self.register_child(cell)

    def state_info(self, batch_size=0):
        return [info for c in self._children.values() for info in c.state_info(batch_size)]

    def begin_state(self, **kwargs):
        """The first states of all cells."""
        assert not self._modified, f"After applying modifier cells (e.g. ZoneoutCell) {CALLED}"
        return [s for c in self._children.values() for s in c.begin_state(**kwargs)]

    def _each(self, states):
        """Pairs of a cell and its own states."""
        at = 0
        for cell in self._children.values():
            number = len(cell.state_info())
            yield cell, states[at : at + number]
            at += number

    def __call__(self, inputs, states):
        self._counter += 1
        cells, found = self._children.values(), []
        assert not any(isinstance(c, BidirectionalCell) for c in cells), "Please use unroll"
        for cell, own in self._each(states):
            inputs, new = cell(inputs, own)
            found += new
        return inputs, found

    # --- Cells of cells ---------------------------------------------------------------------------

    def unroll(
        self, length, inputs, begin_state=None, layout="NTC", merge_outputs=None, valid_length=None
    ):
        """Outputs and last states of `length` steps, one cell after the other."""
        self.reset()
        inputs, _, F, batch = format_sequence(length, inputs, layout, None)
        states, found = first_state(self, F, begin_state, inputs, batch), []
        top = len(self._children) - 1
        for i, (cell, own) in enumerate(self._each(states)):
            merge = merge_outputs if i == top else None
            inputs, new = cell.unroll(length, inputs, own, layout, merge, valid_length)
            found += new
        return inputs, found

    def __getitem__(self, i):
        return self._children[str(i)]

    def __len__(self):
        return len(self._children)

    def __repr__(self):
        cells = [f"({k}): " + repr(c).replace("\n", "\n  ") for k, c in self._children.items()]
        return f"{type(self).__name__}(\n" + "\n".join(cells) + "\n)"


class SequentialRNNCell(Stack, RecurrentCell):
    """Cells one over the other."""


class HybridSequentialRNNCell(Stack, HybridRecurrentCell):
    """Cells one over the other, all of which can be hybridized."""

    def __call__(self, inputs, states):
        if self._active and isinstance(inputs, NDArray):
            self._counter += 1
            return HybridRecurrentCell.__call__(self, inputs, states)
        return Stack.__call__(self, inputs, states)

    def hybrid_forward(self, F, inputs, states):
        return Stack.__call__(self, inputs, states)


class DropoutCell(HybridRecurrentCell):
    """Dropout of the input, as a cell without a state."""

    def __init__(self, rate, axes=(), prefix=None, params=None):
        super().__init__(prefix, params)
        assert isinstance(rate, int | float), "rate must be a number"
        self._rate, self._axes = rate, axes

    def __repr__(self):
        return f"{type(self).__name__}(rate={self._rate}, axes={self._axes})"

    def state_info(self, batch_size=0):
        return []

    def _alias(self):
        return "dropout"

    def hybrid_forward(self, F, inputs, states):
        if self._rate > 0:
            name = f"t{self._counter}_fwd"
            inputs = F.Dropout(inputs, p=self._rate, axes=self._axes, name=name)
        return inputs, states

    def unroll(
        self, length, inputs, begin_state=None, layout="NTC", merge_outputs=None, valid_length=None
    ):
        """The inputs, dropped out: as one array all steps at once."""
        self.reset()
        inputs, _, F, _ = format_sequence(length, inputs, layout, merge_outputs)
        if isinstance(inputs, ARRAYS):
            return self.hybrid_forward(F, inputs, begin_state or [])
        return super().unroll(length, inputs, begin_state or [], layout, merge_outputs)


class ModifierCell(HybridRecurrentCell):
    """A cell that changes what another one does; from then on only the modifier is called."""

    def __init__(self, base_cell):
        assert not base_cell._modified, (
            f"Cell {base_cell.name} is already modified. One cell cannot be modified twice"
        )
        base_cell._modified = True
        super().__init__(prefix=base_cell.prefix + self._alias(), params=None)
        self.base_cell = base_cell

    @property
    def params(self):
        """The parameters of the cell inside."""
        return self.base_cell.params

    def state_info(self, batch_size=0):
        return self.base_cell.state_info(batch_size)

    def begin_state(self, func=sym.zeros, **kwargs):
        """The first states of the cell inside; by default symbols, as in MXNet."""
        assert not self._modified, f"After applying modifier cells (e.g. DropoutCell) {CALLED}"
        self.base_cell._modified = False
        states = self.base_cell.begin_state(func=func, **kwargs)
        self.base_cell._modified = True
        return states

    def hybrid_forward(self, F, inputs, states):
        raise NotImplementedError

    def __repr__(self):
        return f"{type(self).__name__}({self.base_cell!r})"


class ZoneoutCell(ModifierCell):
    """Zoneout (Krueger et al. 2016): in training, random units keep the value of the step before."""

    def __init__(self, base_cell, zoneout_outputs=0.0, zoneout_states=0.0):
        assert not isinstance(base_cell, BidirectionalCell), (
            "BidirectionalCell doesn't support zoneout since it doesn't support step. "
            "Please add ZoneoutCell to the cells underneath instead."
        )
        super().__init__(base_cell)
        self.zoneout_outputs, self.zoneout_states = zoneout_outputs, zoneout_states
        self._prev_output = None

    def __repr__(self):
        rates = f"p_out={self.zoneout_outputs}, p_state={self.zoneout_states}"
        return f"{type(self).__name__}({rates}, {self.base_cell!r})"

    def _alias(self):
        return "zoneout"

    def reset(self):
        """Begin a new sequence: there is no step before."""
        super().reset()
        self._prev_output = None

    def hybrid_forward(self, F, inputs, states):
        new, new_states = self.base_cell(inputs, states)
        old = F.zeros_like(new) if self._prev_output is None else self._prev_output
        new = zoned(F, self.zoneout_outputs, new, old)
        self._prev_output = new
        return new, [zoned(F, self.zoneout_states, n, o) for n, o in zip(new_states, states)]


def zoned(F, p, new, old):
    """`new`, but `old` where a coin of probability p says so."""
    return new if p == 0 else F.where(F.Dropout(F.ones_like(new), p=p), new, old)


class ResidualCell(ModifierCell):
    """The output of a cell plus its input (Wu et al. 2016)."""

    def hybrid_forward(self, F, inputs, states):
        output, states = self.base_cell(inputs, states)
        return F.elemwise_add(output, inputs, name=f"t{self._counter}_fwd"), states

    def unroll(
        self, length, inputs, begin_state=None, layout="NTC", merge_outputs=None, valid_length=None
    ):
        """Outputs plus inputs, and the last states, of `length` steps."""
        self.reset()
        self.base_cell._modified = False
        outputs, states = self.base_cell.unroll(
            length, inputs, begin_state, layout, merge_outputs, valid_length
        )
        self.base_cell._modified = True
        merge = isinstance(outputs, ARRAYS) if merge_outputs is None else merge_outputs
        inputs, axis, F, _ = format_sequence(length, inputs, layout, merge)
        if valid_length is not None:
            inputs = mask_sequence(F, inputs, length, valid_length, axis, merge)
        if merge:
            return F.elemwise_add(outputs, inputs), states
        return [F.elemwise_add(o, i) for o, i in zip(outputs, inputs)], states


class BidirectionalCell(HybridRecurrentCell):
    """Two cells, one forwards in time and one backwards; their outputs side by side."""

    def __init__(self, l_cell, r_cell, output_prefix="bi_"):
        super().__init__(prefix="", params=None)
        self.register_child(l_cell, "l_cell")
        self.register_child(r_cell, "r_cell")
        self._output_prefix = output_prefix

    def __call__(self, inputs, states):
        raise NotImplementedError("Bidirectional cannot be stepped. Please use unroll")

    def __repr__(self):
        left, right = self._children.values()
        return f"{type(self).__name__}(forward={left!r}, backward={right!r})"

    state_info = Stack.state_info

    def begin_state(self, **kwargs):
        """The first states of both cells."""
        assert not self._modified, f"After applying modifier cells (e.g. DropoutCell) {CALLED}"
        return [s for c in self._children.values() for s in c.begin_state(**kwargs)]

    # --- Cells of cells ---------------------------------------------------------------------------

    def unroll(
        self, length, inputs, begin_state=None, layout="NTC", merge_outputs=None, valid_length=None
    ):
        """Outputs of both directions, joined, and the last states of both."""
        self.reset()
        inputs, axis, F, batch = format_sequence(length, inputs, layout, False)
        turned = reverse_sequences(F, inputs, length, valid_length)
        states = first_state(self, F, begin_state, inputs, batch)
        left, right = self._children.values()
        own = len(left.state_info(batch))
        ls, l_states = left.unroll(
            length, inputs, states[:own], layout, merge_outputs, valid_length
        )
        rs, r_states = right.unroll(length, turned, states[own:], layout, False, valid_length)
        rs = reverse_sequences(F, rs, length, valid_length)
        merge = isinstance(ls, ARRAYS) if merge_outputs is None else merge_outputs
        outputs = self._joined(F, ls, rs, axis, merge)
        if valid_length is not None:
            outputs = mask_sequence(F, outputs, length, valid_length, axis, merge)
        return outputs, l_states + r_states

    def _joined(self, F, ls, rs, axis, merge):
        """Both outputs side by side, as one array or as a list."""
        name = self._output_prefix
        if merge:
            return F.concat(ls, F.stack(*rs, axis=axis), dim=2, name=f"{name}out")
        pairs = enumerate(zip(ls, rs))
        return [F.concat(one, two, dim=1, name=f"{name}t{i}") for i, (one, two) in pairs]
