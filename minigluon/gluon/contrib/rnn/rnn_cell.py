"""A projection, a state that is a picture, a mask that stays for a whole sequence, and a loop that never unrolls."""

# Written from chapters/62_contrib_cells.ipynb: edit the chapter, then run `minigluon export`.

from minigluon.gluon.rnn.rnn_cell import (
    ARRAYS,
    NAMES,
    BidirectionalCell,
    GatedCell,
    GRUCell,
    HybridRecurrentCell,
    LSTMCell,
    ModifierCell,
    RNNCell,
    first_state,
    format_sequence,
    mask_sequence,
)

__all__ = [
    "Conv1DGRUCell",
    "Conv1DLSTMCell",
    "Conv1DRNNCell",
    "Conv2DGRUCell",
    "Conv2DLSTMCell",
    "Conv2DRNNCell",
    "Conv3DGRUCell",
    "Conv3DLSTMCell",
    "Conv3DRNNCell",
    "ConvCell",
    "LSTMPCell",
    "SETTINGS",
    "VariationalDropoutCell",
    "counted",
    "dynamic_unroll",
    "in_each",
]


# --- A projected state ----------------------------------------------------------------------------


class LSTMPCell(GatedCell):
    """An LSTM whose output is projected to `projection_size` numbers
    (Sak et al. 2014, arXiv:1402.1128).
    """

    _gates = 4

    def __init__(
        self,
        hidden_size,
        projection_size,
        i2h_weight_initializer=None,
        h2h_weight_initializer=None,
        h2r_weight_initializer=None,
        i2h_bias_initializer="zeros",
        h2h_bias_initializer="zeros",
        input_size=0,
        prefix=None,
        params=None,
    ):
        super().__init__(prefix=prefix, params=params)
        self._hidden_size, self._input_size = hidden_size, input_size
        self._projection_size, rows = projection_size, 4 * hidden_size
        self._make(
            [
                ("i2h_weight", (rows, input_size), i2h_weight_initializer),
                ("h2h_weight", (rows, projection_size), h2h_weight_initializer),
                ("h2r_weight", (projection_size, hidden_size), h2r_weight_initializer),
                ("i2h_bias", (rows,), i2h_bias_initializer),
                ("h2h_bias", (rows,), h2h_bias_initializer),
            ]
        )

    # --- A projected state ------------------------------------------------------------------------

    def _alias(self):
        return "lstmp"

    def state_info(self, batch_size=0):
        sizes = self._projection_size, self._hidden_size
        return [{"shape": (batch_size, n), "__layout__": "NC"} for n in sizes]

    def _mapping(self):
        return f"{super()._mapping()} -> {self._projection_size}"

    def hybrid_forward(
        self, F, inputs, states, i2h_weight, h2h_weight, i2h_bias, h2h_bias, h2r_weight
    ):
        t, r, c = f"t{self._counter}_", *states
        i2h, h2h = self._shares(F, t, inputs, r, i2h_weight, h2h_weight, i2h_bias, h2h_bias)
        i, f, g, o = F.SliceChannel(i2h + h2h, num_outputs=4, name=t + "slice")
        i, f, o = (
            F.Activation(a, act_type="sigmoid", name=t + n) for a, n in zip((i, f, o), "ifo")
        )
        g = F.Activation(g, act_type="tanh", name=t + "c")
        c = F.elemwise_add(f * c, i * g, name=t + "state")
        hidden = F.elemwise_mul(o, F.Activation(c, act_type="tanh"), name=t + "hidden")
        size = self._projection_size
        r = F.FullyConnected(hidden, h2r_weight, num_hidden=size, no_bias=True, name=t + "out")
        return r, [r, c]


# --- A state that is a picture --------------------------------------------------------------------


def in_each(value, dims, name):
    """A setting of a convolution as a tuple of `dims` whole numbers."""
    found = (value,) * dims if isinstance(value, int) else tuple(value)
    assert len(found) == dims, (
        f"For {dims}D convolution, the convolution settings can only be either int or list/tuple of "
        f"length {dims}: got {name}={value}"
    )
    return found


class ConvCell(GatedCell):
    """What convolutional cells have in common (Shi et al. 2015, arXiv:1506.04214).

    input_shape: channels and sizes, (C, width) to (C, depth, height, width), in `conv_layout` without N.
    Inputs (N, *input_shape); states have `hidden_channels` in place of C, and the size that i2h leaves.
    """

    _dims, _layout = 1, "NCW"

    def __init__(
        self,
        input_shape,
        hidden_channels,
        i2h_kernel,
        h2h_kernel,
        i2h_pad=0,
        i2h_dilate=1,
        h2h_dilate=1,
        i2h_weight_initializer=None,
        h2h_weight_initializer=None,
        i2h_bias_initializer="zeros",
        h2h_bias_initializer="zeros",
        conv_layout=None,
        activation="tanh",
        prefix=None,
        params=None,
    ):
        HybridRecurrentCell.__init__(self, prefix=prefix, params=params)
        self._hidden_size, self._activation = hidden_channels, activation
        self._conv_layout, self._input_shape = conv_layout or self._layout, tuple(input_shape)
        assert len(self._input_shape) == self._dims + 1, (
            f"input_shape={input_shape}: a {self._dims}D cell wants channels and {self._dims} sizes"
        )
        settings = i2h_kernel, h2h_kernel, i2h_pad, i2h_dilate, h2h_dilate
        self._arrange(*[in_each(v, self._dims, n) for v, n in zip(settings, SETTINGS)])
        initializers = i2h_weight_initializer, h2h_weight_initializer
        biases = i2h_bias_initializer, h2h_bias_initializer
        self._make_weights(*initializers, *biases)

    # --- A state that is a picture ----------------------------------------------------------------

    def _arrange(self, kernel, state_kernel, pad, dilate, state_dilate):
        """The settings of both convolutions, and the shape of a state."""
        assert all(k % 2 for k in state_kernel), (
            f"Only support odd number, get h2h_kernel= {state_kernel}"
        )
        self._i2h = {"kernel": kernel, "pad": pad, "dilate": dilate}
        state_pad = tuple(d * (k - 1) // 2 for d, k in zip(state_dilate, state_kernel))
        self._h2h = {"kernel": state_kernel, "pad": state_pad, "dilate": state_dilate}
        sizes = zip(self._split(self._input_shape)[1], kernel, pad, dilate)
        self._state_sizes = tuple(n + 2 * p - d * (k - 1) for n, k, p, d in sizes)

    def _split(self, shape):
        """Channels and sizes of a shape without N."""
        at = self._conv_layout.find("C") - 1
        return shape[at], shape[:at] + shape[at + 1 :]

    def _shape(self, channels, sizes):
        """The shape, without N, of so many channels and such sizes."""
        at = self._conv_layout.find("C") - 1
        return (*sizes[:at], channels, *sizes[at:])

    def _make_weights(self, *initializers):
        rows, (inputs, _) = self._gates * self._hidden_size, self._split(self._input_shape)
        shapes = [
            (rows, *self._shape(inputs, self._i2h["kernel"])),
            (rows, *self._shape(self._hidden_size, self._h2h["kernel"])),
            (rows,),
            (rows,),
        ]
        self._make(zip(NAMES, shapes, initializers))

    def state_info(self, batch_size=0):
        shape = batch_size, *self._shape(self._hidden_size, self._state_sizes)
        kinds = 2 if self._gates == 4 else 1
        return [{"shape": shape, "__layout__": self._conv_layout}] * kinds

    def _shares(self, F, prefix, inputs, h, i2h_weight, h2h_weight, i2h_bias, h2h_bias):
        """What input and state give to the gates."""
        more = {"num_filter": self._gates * self._hidden_size, "layout": self._conv_layout}
        i2h = F.Convolution(inputs, i2h_weight, i2h_bias, **self._i2h, **more, name=prefix + "i2h")
        h2h = F.Convolution(h, h2h_weight, h2h_bias, **self._h2h, **more, name=prefix + "h2h")
        return i2h, h2h

    def _shown(self, F, x, name):
        return self._get_activation(F, x, self._activation, name=name)

    def _mapping(self):
        rows, inputs = self.i2h_weight.shape[:2]
        return f"{inputs or None} -> {rows}"

    def __repr__(self):
        return f"{type(self).__name__}({self._mapping()}, {self._activation}, {self._conv_layout})"

    def _alias(self):
        return "conv_" + super()._alias()


SETTINGS = ("i2h_kernel", "h2h_kernel", "i2h_pad", "i2h_dilate", "h2h_dilate")


class Conv1DRNNCell(ConvCell, RNNCell):
    """Elman's cell over lines: inputs (N, C, W), state (N, hidden_channels, W')."""


class Conv1DLSTMCell(ConvCell, LSTMCell):
    """An LSTM over lines: inputs (N, C, W), states h and c of shape (N, hidden_channels, W')."""

    _recurrent_activation = "sigmoid"


class Conv1DGRUCell(ConvCell, GRUCell):
    """A GRU over lines: inputs (N, C, W), state (N, hidden_channels, W')."""


class Conv2DRNNCell(Conv1DRNNCell):
    """Elman's cell over pictures: inputs (N, C, H, W), state (N, hidden_channels, H', W')."""

    _dims, _layout = 2, "NCHW"


class Conv2DLSTMCell(Conv1DLSTMCell):
    """An LSTM over pictures: inputs (N, C, H, W), states h and c of (N, hidden_channels, H', W')."""

    _dims, _layout = 2, "NCHW"


class Conv2DGRUCell(Conv1DGRUCell):
    """A GRU over pictures: inputs (N, C, H, W), state (N, hidden_channels, H', W')."""

    _dims, _layout = 2, "NCHW"


class Conv3DRNNCell(Conv1DRNNCell):
    """Elman's cell over volumes: inputs (N, C, D, H, W)."""

    _dims, _layout = 3, "NCDHW"


class Conv3DLSTMCell(Conv1DLSTMCell):
    """An LSTM over volumes: inputs (N, C, D, H, W), states h and c."""

    _dims, _layout = 3, "NCDHW"


class Conv3DGRUCell(Conv1DGRUCell):
    """A GRU over volumes: inputs (N, C, D, H, W)."""

    _dims, _layout = 3, "NCDHW"


# --- One mask for a sequence ----------------------------------------------------------------------


class VariationalDropoutCell(ModifierCell):
    """Dropout whose masks stay the same until `reset` (Gal and Ghahramani 2016, arXiv:1512.05287)."""

    def __init__(self, base_cell, drop_inputs=0.0, drop_states=0.0, drop_outputs=0.0):
        assert not drop_states or not isinstance(base_cell, BidirectionalCell), (
            "BidirectionalCell doesn't support variational state dropout. "
            "Please add VariationalDropoutCell to the cells underneath instead."
        )
        super().__init__(base_cell)
        self.drop_inputs, self.drop_states = drop_inputs, drop_states
        self.drop_outputs = drop_outputs
        self._forget()

    def _forget(self):
        self.drop_inputs_mask = self.drop_states_mask = self.drop_outputs_mask = None

    def _alias(self):
        return "vardrop"

    def reset(self):
        """Begin a new sequence, with new masks."""
        super().reset()
        self._forget()

    def _masked(self, F, x, kind):
        """`x` times the mask of its kind, drawn on the first step."""
        p, name = getattr(self, f"drop_{kind}"), f"drop_{kind}_mask"
        if not p:
            return x
        if getattr(self, name) is None:
            setattr(self, name, F.Dropout(F.ones_like(x), p=p))
        return x * getattr(self, name)

    # --- One mask for a sequence ------------------------------------------------------------------

    def hybrid_forward(self, F, inputs, states):
        states = [self._masked(F, states[0], "states"), *states[1:]]
        output, states = self.base_cell(self._masked(F, inputs, "inputs"), states)
        return self._masked(F, output, "outputs"), states

    def __repr__(self):
        return f"{type(self).__name__}(p_out = {self.drop_outputs}, p_state = {self.drop_states})"

    def unroll(
        self, length, inputs, begin_state=None, layout="NTC", merge_outputs=None, valid_length=None
    ):
        """Outputs and last states of `length` steps;
        without dropout of states, masks for all at once.
        """
        if self.drop_states:
            return super().unroll(
                length, inputs, begin_state, layout, merge_outputs, valid_length=valid_length
            )
        self.reset()
        inputs, axis, F, batch = format_sequence(length, inputs, layout, True)
        states = first_state(self, F, begin_state, inputs, batch)
        if self.drop_inputs:
            inputs = F.Dropout(inputs, p=self.drop_inputs, axes=(axis,))
        self.base_cell._modified = False
        outputs, states = self.base_cell.unroll(length, inputs, states, layout, True, valid_length)
        self.base_cell._modified = True
        if self.drop_outputs:
            outputs = F.Dropout(outputs, p=self.drop_outputs, axes=(axis,))
        if valid_length is not None:
            outputs = mask_sequence(F, outputs, length, valid_length, axis, True)
        merge = True if merge_outputs is None else merge_outputs
        return format_sequence(length, outputs, layout, merge)[0], states


# --- A loop in the graph --------------------------------------------------------------------------


def dynamic_unroll(
    cell, inputs, begin_state, drop_inputs=0, drop_outputs=0, layout="TNC", valid_length=None
):
    """Outputs and last states of a cell over all steps of `inputs`, an array in `layout`, by a loop."""
    inputs, axis, F, _ = format_sequence(0, inputs, layout, True)
    if axis:
        inputs = F.swapaxes(inputs, dim1=0, dim2=axis)
    if drop_inputs:
        inputs = F.Dropout(inputs, p=drop_inputs, axes=(axis,))
    states = [begin_state] if isinstance(begin_state, ARRAYS) else list(begin_state)
    if valid_length is None:
        outputs, states = F.contrib.foreach(cell, inputs, states)
    else:
        outputs, states = F.contrib.foreach(
            counted(F, cell, valid_length), inputs, [*states, F.zeros((1,))]
        )
        states = states[:-1]
    if drop_outputs:
        outputs = F.Dropout(outputs, p=drop_outputs, axes=(axis,))
    if axis:
        outputs = F.swapaxes(outputs, dim1=0, dim2=axis)
    if valid_length is not None:
        outputs = mask_sequence(F, outputs, None, valid_length, axis, True)
    return outputs, states


def counted(F, cell, valid_length):
    """A step that keeps the states of sequences that have ended; the last state is its number."""

    def body(inputs, states):
        *states, number = states
        output, new = cell(inputs, states)
        going = F.broadcast_greater(valid_length, number)
        kept = [F.where(going, n, s) for n, s in zip(new, states)]
        return output, [*kept, number + 1]

    return body
