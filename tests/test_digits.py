"""The digits program: what is wrong is found before training, and the parts do what they say."""

import importlib
from pathlib import Path

import numpy as np
import pytest

import minigluon as mx
from minigluon import digits

WRONG = [  # arguments, what the message says
    (["--epochs", "0"], "--epochs: 0 is not above 0"),
    (["--epochs", "ten"], "--epochs: invalid int value: 'ten'"),
    (["--epochs", "2.5"], "invalid int value"),
    (["--batch-size", "-3"], "--batch-size: -3 is not above 0"),
    (["--lr", "-1"], "--lr: -1 is not above 0"),
    (["--lr", "nan"], "--lr: nan is not above 0"),
    (["--lr", "inf"], "--lr: inf is not below inf"),
    (["--lr", "fast"], "invalid float value"),
    (["--seed", "-1"], "--seed: -1 is not above -1"),
    (["--seed", str(2**32)], "is not below 4294967296"),
    (["--seed", "x"], "invalid int value"),
    (["--out", "no/such/folder/a.png"], "there is no folder"),
    (["--out", "."], "is a folder"),
    (["--out", "a.doc"], "must end in one of"),
    (["--faster"], "unrecognized arguments: --faster"),
]


@pytest.fixture
def no_training(monkeypatch):
    monkeypatch.setattr(digits, "learn", lambda *_: pytest.fail("training has begun"))


@pytest.mark.parametrize(("arguments", "says"), WRONG)
def test_found_before_training(arguments, says, no_training, capsys):
    with pytest.raises(SystemExit) as exit:
        digits.main(arguments)
    assert exit.value.code == 2 and says in capsys.readouterr().err


@pytest.mark.parametrize("package", ["sklearn", "matplotlib", "tqdm"])
def test_a_missing_package(package, no_training, capsys, monkeypatch):
    real = importlib.import_module

    def missing(name, *args):
        if name.split(".")[0] == package:
            raise ImportError(name)
        return real(name, *args)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(SystemExit) as exit:
        digits.main([])
    said = capsys.readouterr().err
    assert exit.value.code == 2 and package[-5:] in said and "minigluon[learn]" in said


def test_a_file_that_may_not_be_written(tmp_path, no_training, capsys, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)  # root may write anywhere
    with pytest.raises(SystemExit) as exit:
        digits.main(["--out", str(tmp_path / "a.png")])
    assert exit.value.code == 2 and "cannot be written to" in capsys.readouterr().err
    assert not (tmp_path / "a.png").exists()


def test_names_that_are_fine(tmp_path):
    for name in ("a.png", "a.PDF", "a", "a.svg"):
        assert digits.unwritable(tmp_path / name) is None
    assert digits.unwritable(Path("digits.png")) is None


def test_a_short_run(tmp_path, capsys):
    arguments = ["--epochs", "1", "--batch-size", "512", "--seed", "3"]
    assert digits.main([*arguments, "--out", str(tmp_path / "a.svg")]) == 0
    assert "held-out accuracy" in capsys.readouterr().out
    assert b"<svg" in (tmp_path / "a.svg").read_bytes()


def test_a_seed_repeats_a_run():
    first, second, other = (digits.learn(1, 256, seed=s)[2] for s in (5, 5, 6))
    assert first == second != other


def test_split():
    train, held_out = digits.load(seed=1)
    assert (len(train), len(held_out)) == (1347, 450)
    x, y = train[0]
    assert x.shape == (64,) and x.dtype == np.float32 and x.min() >= 0 and x.max() <= 1
    assert y in range(10)


def test_noise_is_drawn_anew():
    x = np.zeros(64, "float32")
    assert digits.rescanned(x).dtype == np.float32
    assert (digits.rescanned(x) != digits.rescanned(x)).any()


def test_reader():
    net = digits.Reader()
    net.initialize(mx.init.Xavier())
    assert net(mx.nd.ones((2, 64))).shape == (2, 10)
    assert sum(p.data().size for p in net.collect_params().values()) == 9610
