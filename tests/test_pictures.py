"""Summaries and drawings of graphs, tables of blocks."""

import re
import subprocess
import sys
from xml.etree import ElementTree

import pytest

import minigluon as mx
from minigluon.gluon import nn


def classifier():
    h = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=4, name="fc1")
    h = mx.sym.Activation(h, act_type="relu", name="relu1")
    return mx.sym.softmax(mx.sym.FullyConnected(h, num_hidden=3, name="fc2"), name="soft")


LINES = """\
data(null)                                          5                       0
fc1(FullyConnected)                                 4                       24          data
relu1(Activation)                                   4                       0           fc1
fc2(FullyConnected)                                 3                       15          relu1
soft(softmax)                                       3                       0           fc2"""


def test_print_summary_calls_operators_as_mxnet_does(capsys):
    x = mx.sym.var("data")
    mx.viz.print_summary(x * 2 + mx.sym.exp(x), shape={"data": (1, 5)})
    told = capsys.readouterr().out
    assert all(kind in told for kind in ("(_mul_scalar)", "(exp)", "(elemwise_add)"))


def test_print_summary_is_mxnets(capsys):
    mx.viz.print_summary(classifier(), shape={"data": (1, 5)})
    out = capsys.readouterr().out.splitlines()
    assert all(len(line) == 120 for line in out if not line.startswith("Total"))
    assert [line.rstrip() for line in out if "(" in line][1:] == LINES.splitlines()
    assert "Total params: 39" in out
    mx.viz.print_summary(classifier())
    assert "Total params: 0" in capsys.readouterr().out


def test_summary_shows_all_inputs(capsys):
    s = classifier()
    mx.viz.print_summary(s + s.get_internals()["fc2_output"], shape={"data": (1, 5)})
    assert "\n" + " " * 88 + "fc2" in capsys.readouterr().out


def test_what_is_refused():
    with pytest.raises(TypeError, match="symbol must be Symbol"):
        mx.viz.print_summary(nn.Dense(3))
    with pytest.raises(mx.MXNetError, match="dat"):
        mx.viz.print_summary(classifier(), shape={"dat": (1, 5)})


def test_plot_network_needs_graphviz(monkeypatch):
    monkeypatch.setitem(sys.modules, "graphviz", None)
    with pytest.raises(ImportError, match="pip install graphviz"):
        mx.viz.plot_network(classifier())


def test_plot_network_gives_the_graph_to_graphviz(monkeypatch):
    class Digraph:
        def __init__(self, name, format):
            self.nodes, self.edges = {}, []

        def node(self, name, label, attrs):
            self.nodes[name] = label

        def edge(self, tail, head, **attrs):
            self.edges.append((tail, head, attrs["label"]))

    module = type(sys)("graphviz")
    module.Digraph = Digraph
    monkeypatch.setitem(sys.modules, "graphviz", module)
    dot = mx.viz.plot_network(classifier(), shape={"data": (1, 5)})
    assert dot.nodes == {
        "data": "data",
        "fc1": "FullyConnected\n4",
        "relu1": "Activation\nrelu",
        "fc2": "FullyConnected\n3",
        "soft": "softmax",
    }
    assert dot.edges[0] == ("fc1", "data", "5")
    assert "fc1_weight" in mx.viz.plot_network(classifier(), hide_weights=False).nodes


def test_a_symbol_draws_itself():
    tree = ElementTree.fromstring(classifier()._repr_svg_())
    space = "{http://www.w3.org/2000/svg}"
    assert len(tree.findall(f".//{space}rect")) == 5 and len(tree.findall(f"{space}path")) == 4
    long = mx.sym.var("<data>")
    assert "&lt;data&gt;" in long._repr_svg_()
    for _ in range(100):
        long = long + 1
    assert long._repr_svg_() is None


def test_a_symbol_draws_itself_where_nobody_has_asked_for_drawings():
    code = "import minigluon as mx; assert (mx.sym.var('x') + 1)._repr_svg_().startswith('<svg')"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_line_goes_around_the_boxes_between():
    h = mx.sym.relu(mx.sym.var("x"))
    page = ElementTree.fromstring((h.exp() + h)._repr_svg_())
    space = "{http://www.w3.org/2000/svg}"
    right = max(float(r.get("x")) + float(r.get("width")) for r in page.iter(f"{space}rect"))
    ways = [p.get("d") for p in page.findall(f"{space}path")]
    around = [way for way in ways if "V" in way]
    assert len(ways) == 4 and len(around) == 1
    (lane,) = {float(n) for n in re.findall(r"([\d.]+) [\d.]+V", around[0])}
    assert right < lane < float(page.get("width"))
    apart = mx.sym.Group([h.exp(), h.log()])  # two boxes side by side: nothing to go around
    assert "V" not in apart._repr_svg_().split("<path", 1)[1].split("<g>")[0]


def test_a_block_shows_a_table():
    net = nn.HybridSequential()
    net.add(nn.Dense(4, in_units=5), nn.Dense(3))
    page = ElementTree.fromstring(net._repr_html_().replace("<br>", "<br/>"))
    table = page.find("table")
    assert "27 parameters" in table.find("caption").text
    assert "3×?" in net._repr_html_() and "unknown" in table.find("caption").text
    rows = [[cell.text for cell in row] for row in table.findall("tbody/tr")]
    assert [first for first, *_ in rows] == [None, "\u2003" + "0", "\u2003" + "1"]  # by its depth
    # what a page does to cells must not put their texts side by side
    assert not list(page.iter("td"))[0].attrib and "table.gluon td" in page.find("style").text
    assert table.get("class") == "gluon" and "padding" in page.find("style").text
