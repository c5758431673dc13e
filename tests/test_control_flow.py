"""foreach, while_loop and cond: structures, lengths, gradients, and what is refused."""

import numpy as np
import pytest

import minigluon as mx
from minigluon import autograd, nd

foreach, while_loop, cond = nd.contrib.foreach, nd.contrib.while_loop, nd.contrib.cond


def grid(*shape):
    return nd.array(np.arange(np.prod(shape)).reshape(shape))


def numbers(nested):
    """Nested lists of arrays as nested lists of numbers."""
    return [numbers(n) for n in nested] if isinstance(nested, list | tuple) else nested.tolist()


def test_one_array():
    out, state = foreach(lambda x, s: (x + s, x + s), grid(3, 2), nd.zeros((2,)))
    assert out.tolist() == [[0, 1], [2, 4], [6, 9]] and state.tolist() == [6, 9]


def test_slices_of_vectors_have_one_number():
    out, state = foreach(lambda x, s: (x + s, x + s), grid(3), nd.zeros((1,)))
    assert out.tolist() == [[0], [1], [3]] and state.tolist() == [3]


def test_one_step():
    out, _ = foreach(lambda x, s: (x, s), grid(1, 2), [])
    assert out.tolist() == [[0, 1]]


def test_nested_lists():
    def body(x, s):
        assert isinstance(x, list) and isinstance(x[1], list)
        return (x[0], [x[1][0] + s[0]]), [s[0] + 1, [s[1][0] + x[0]]]

    data, states = [grid(3), [grid(3)]], [nd.zeros((1,)), [nd.zeros((1,))]]
    out, states = foreach(body, data, states)
    assert numbers(out) == [[[0], [1], [2]], [[[0], [2], [4]]]]
    assert isinstance(out, list) and numbers(states) == [[3], [[3]]]


def test_without_outputs_or_states():
    assert foreach(lambda x, s: ([], s + x), grid(3), nd.zeros((1,)))[0] == []
    assert foreach(lambda x, s: (x, s), grid(3), [])[1] == []


def test_states_are_those_of_the_body():
    out, states = foreach(lambda x, s: (x, (s[0] + 1,)), grid(3), [nd.zeros((1,))])
    assert isinstance(states, tuple) and states[0].tolist() == [3]


def test_longer_arrays_are_used_in_part():
    out, _ = foreach(lambda x, s: (x[0] + x[1], s), [grid(2), grid(3)], [])
    assert out.tolist() == [[0], [2]]


def test_no_slices():
    state = nd.zeros((2,))
    out, last = foreach(lambda x, s: (x, s), nd.empty((0, 2)), state)
    assert out == [] and last is state


def test_types_and_contexts_are_kept():
    x = nd.array([[1], [2]], ctx=mx.cpu(1), dtype="int32")
    out, _ = foreach(lambda x, s: (x, s), x, [])
    assert out.dtype == np.int32 and out.context == mx.cpu(1)


@pytest.mark.parametrize(
    ("body", "data", "states", "error", "says"),
    [
        (None, 3, [], AssertionError, "data must be an array or a nested list of arrays"),
        (None, [nd.ones((1,)), [3]], [], TypeError, "got 3 of type int"),
        (None, nd.ones((1,)), None, AssertionError, "init_states must be"),
        (None, [nd.ones((3,)), nd.ones((2,))], [], IndexError, r"\[3, 2\]"),
        (None, [], [], IndexError, r"\[\]"),
        (lambda x, s: (1.0, s), nd.ones((1,)), [], AssertionError, "output of body.*got 1.0"),
        (lambda x, s: (None, s), nd.ones((1,)), [], AssertionError, "got None"),
        (lambda x, s: ([x] * int(x), s), grid(3), [], ValueError, "equally many.*0, 1, 2"),
    ],
)
def test_foreach_refuses(body, data, states, error, says):
    with pytest.raises(error, match=says):
        foreach(body, data, states)


def test_outputs_of_different_shapes():
    with pytest.raises(mx.MXNetError, match="stack"):
        foreach(lambda x, s: (nd.ones((int(x) + 1,)), s), grid(2), [])


def test_gradient_of_foreach():
    x, w = grid(3, 2), nd.array([2, 3])
    x.attach_grad()
    w.attach_grad()
    with autograd.record():
        out, state = foreach(lambda x, s: (x * s * w, s + x * w), x, nd.ones((2,)))
        total = out.sum() + state.sum()
    total.backward()
    assert x.grad.tolist() == [[28, 78], [20, 60], [12, 42]]
    assert w.grad.tolist() == [44, 156]


def test_second_gradient_of_foreach():
    x = nd.array([2.0])
    x.attach_grad()
    with autograd.record():
        _, y = foreach(lambda _, s: ([], s * x), nd.zeros((3,)), nd.ones((1,)))
        (slope,) = autograd.grad(y, [x], create_graph=True)
    slope.backward()
    assert slope.tolist() == [12] and x.grad.tolist() == [12]


COUNT = {"cond": lambda i, s: i <= 5, "func": lambda i, s: ([i + s], [i + 1, s + i])}


def counted(most):
    return while_loop(**COUNT, loop_vars=(nd.array([0]), nd.array([1])), max_iterations=most)


def test_while_loop():
    (out,), last = counted(8)
    assert out.tolist() == [[1], [2], [4], [7], [11], [16], [0], [0]]
    assert numbers(last) == [[6], [16]] and isinstance(last, list)


@pytest.mark.parametrize("most", [3, 3.5, "3", nd.array([3])])
def test_limit(most):
    (out,), last = counted(most)
    assert out.tolist() == [[1], [2], [4]] and numbers(last) == [[3], [4]]


@pytest.mark.parametrize("most", [0, -1])
def test_no_step(most):
    out, last = counted(most)
    assert out == [] and isinstance(last, tuple) and numbers(last) == [[0], [1]]
    out, last = while_loop(lambda i: i > 5, lambda i: (i, i + 1), nd.array([0]), 4)
    assert out == [] and last.tolist() == [0]


def test_single_variable_and_output():
    out, last = while_loop(lambda i: i < 2, lambda i: (2 * i, i + 1), nd.array([0]), 3)
    assert out.tolist() == [[0], [2], [0]] and last.tolist() == [2]
    out, last = while_loop(lambda i: i < 2, lambda i: (None, i + 1), [nd.array([0])], 3)
    assert out == [] and numbers(last) == [[2]]


def test_nested_variables():
    start = [nd.array([0]), [nd.array([0])]]
    out, last = while_loop(
        lambda i, s: i < 2, lambda i, s: ((i, [i]), (i + 1, [s[0] + i])), start, 3
    )
    assert numbers(out) == [[[0], [1], [0]], [[[0], [1], [0]]]] and numbers(last) == [[2], [[1]]]


def test_conditions_need_not_be_arrays():
    out, _ = while_loop(lambda i: i < 2, lambda i: (nd.array([i]), i + 1), [0], 3)
    assert out.tolist() == [[0], [1], [0]]


def test_padding_keeps_type_and_context():
    i = nd.array([0], ctx=mx.cpu(1), dtype="int32")
    out, _ = while_loop(lambda i: i < 2, lambda i: (i, i + 1), i, 4)
    assert out.dtype == np.int32 and out.context == mx.cpu(1) and out.shape == (4, 1)


def test_gradient_of_while_loop():
    w = nd.array([2, 3])
    w.attach_grad()
    with autograd.record():
        out, (_, last) = while_loop(
            lambda i, s: i < 3,
            lambda i, s: (s * w, [i + 1, s * w]),
            [nd.array([0]), nd.ones((2,))],
            max_iterations=5,
        )
        total = out.sum() + last.sum()
    total.backward()
    assert w.grad.tolist() == [29, 61]


@pytest.mark.parametrize(
    ("func", "variables", "most", "error", "says"),
    [
        (None, nd.ones((1,)), None, ValueError, "max_iterations should be specified"),
        (None, nd.ones((1,)), "many", ValueError, "max_iterations, 'many', as int"),
        (None, [], 3, ValueError, "at least one"),
        (None, 3, 3, TypeError, "len"),
        (None, nd.ones((2,)), 3, ValueError, "not a scalar"),
        (lambda i: (i, [i, i]), nd.ones((1,)), 3, ValueError, "got 1 and gave 2"),
        (lambda i: ([i] * int(i), i + 1), nd.ones((1,)), 3, ValueError, "equally many.*1, 2"),
        (lambda i: (1.0, i + 1), nd.ones((1,)), 3, AssertionError, "step output"),
    ],
)
def test_while_loop_refuses(func, variables, most, error, says):
    with pytest.raises(error, match=says):
        while_loop(lambda i: i < 3, func, variables, most)


@pytest.mark.parametrize(
    ("pred", "chosen"),
    [
        (nd.array([1]), 1),
        (nd.array([[0.5]]), 1),
        (nd.array([0]), 2),
        (nd.array([float("nan")]), 1),
        (True, 1),
        (0, 2),
    ],
)
def test_cond(pred, chosen):
    assert cond(pred, lambda: 1, lambda: 2) == chosen
    assert cond(pred=pred, then_func=lambda: [1, [1]], else_func=lambda: 2) in ([1, [1]], 2)


def test_only_one_branch_runs():
    def never():
        raise AssertionError

    assert cond(nd.array([1]), lambda: 1, never) == 1


@pytest.mark.parametrize("pred", [nd.ones((2,)), lambda: nd.ones((1,))])
def test_cond_refuses(pred):
    with pytest.raises(ValueError, match="not a scalar|is a function"):
        cond(pred, lambda: 1, lambda: 2)


def test_gradient_of_cond():
    w = nd.array([2, 3])
    w.attach_grad()
    with autograd.record():
        y = cond(w.sum() > 3, lambda: w * w, lambda: w)
    y.backward()
    assert w.grad.tolist() == [4, 6]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_questions(dtype):
    x = nd.array([float("nan"), float("inf"), -float("inf"), 1], dtype=dtype)
    answers = [f(x) for f in (nd.contrib.isnan, nd.contrib.isinf, nd.contrib.isfinite)]
    assert numbers(answers) == [[1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1]]
    assert all(a.dtype == np.dtype(dtype) for a in answers)


def test_questions_about_integers():
    x = nd.array([-1, 2], dtype="int32")
    answers = [f(x) for f in (nd.contrib.isnan, nd.contrib.isinf, nd.contrib.isfinite)]
    assert numbers(answers) == [[0, 0], [0, 0], [1, 1]]
    assert all(a.dtype == np.int32 for a in answers)
