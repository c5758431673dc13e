"""Vocabularies and embeddings: what MXNet 1.9.1 gave for the same calls."""

import functools
import http.server
import threading
import warnings
import zipfile
from collections import Counter

import numpy as np
import pytest

from minigluon import contrib, nd
from minigluon.contrib import text

COUNTER = Counter(["a", "b", "b", "c", "c", "c", "some_word$"])


def test_vocabulary():
    v = text.vocab.Vocabulary(COUNTER, most_freq_count=2, reserved_tokens=["<pad>", "b"])
    assert v.idx_to_token == ["<unk>", "<pad>", "b", "c", "a"]
    assert v.token_to_idx == {"<unk>": 0, "<pad>": 1, "b": 2, "c": 3, "a": 4}
    assert (len(v), v.unknown_token, v.reserved_tokens) == (5, "<unk>", ["<pad>", "b"])
    assert v.to_indices("zz") == 0 and v.to_indices(["c", "zz"]) == [3, 0]
    assert v.to_tokens(0) == "<unk>" and v.to_tokens([0, 2]) == ["<unk>", "b"]
    for wrong in (100, 1.0, -100, "a"):
        with pytest.raises(ValueError, match="is invalid"):
            v.to_tokens(wrong)
    assert text.vocab.Vocabulary().idx_to_token == ["<unk>"]
    assert text.vocab.Vocabulary().reserved_tokens is None
    other = text.vocab.Vocabulary(COUNTER, unknown_token="c")
    assert other.idx_to_token == ["c", "b", "a", "some_word$"]
    assert text.vocab.Vocabulary(COUNTER, 0).idx_to_token == ["<unk>"]
    assert text.vocab.Vocabulary(COUNTER, min_freq=2).idx_to_token == ["<unk>", "c", "b"]
    numbers = text.vocab.Vocabulary(Counter([3, 3, 1]), unknown_token=0)
    assert numbers.to_indices([3, 1, 2]) == [1, 2, 0]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"counter": ["a"]}, "collections.Counter"),
        ({"min_freq": 0}, "positive"),
        ({"reserved_tokens": ["<unk>"]}, "cannot contain `unknown_token`"),
        ({"reserved_tokens": ["a", "a"]}, "duplicate"),
    ],
)
def test_refused_vocabularies(settings, says):
    with pytest.raises(AssertionError, match=says):
        text.vocab.Vocabulary(**settings)


def test_count_tokens():
    source = " Life is great ! \n life is good . \n"
    count = text.utils.count_tokens_from_str
    wanted = {"life": 2, "is": 2, "great": 1, "!": 1, "good": 1, ".": 1}
    assert count(source, " ", "\n", True) == wanted
    assert count("*Life*is*", r"\*") == {"Life": 1, "is": 1}
    counter = Counter(["is"])
    assert count(source, counter_to_update=counter) is counter and counter["is"] == 3


@pytest.fixture
def path(tmp_path):
    def made(content):
        file = tmp_path / "e.txt"
        file.write_text(content, encoding="utf8")
        return str(file)

    return made


PLAIN = "a 0.1 0.2 0.3\nb 1 2 3\n"


def test_custom(path):
    with pytest.warns(UserWarning, match="line 3: token a comes again"):
        e = text.embedding.CustomEmbedding(path(PLAIN + "a 9 9 9\n"))
    assert e.idx_to_token == ["<unk>", "a", "b"] and e.vec_len == 3 and len(e) == 3
    np.testing.assert_allclose(e.idx_to_vec.asnumpy(), [[0] * 3, [0.1, 0.2, 0.3], [1, 2, 3]], 1e-6)
    vectors = e.get_vecs_by_tokens(["a", "A", "q"])
    np.testing.assert_allclose(vectors.asnumpy(), [[0.1, 0.2, 0.3], [0] * 3, [0] * 3], 1e-6)
    assert e.get_vecs_by_tokens("B", True).asnumpy().tolist() == [1, 2, 3]
    e.update_token_vectors("a", nd.array([7, 7, 7]))
    assert e.idx_to_vec.asnumpy()[1].tolist() == [7, 7, 7]
    e.update_token_vectors(["a", "b"], nd.array([[1, 1, 1], [2, 2, 2]]))
    assert e.idx_to_vec.asnumpy()[1:].tolist() == [[1, 1, 1], [2, 2, 2]]
    e.update_token_vectors("<unk>", nd.array([[7, 7, 7]]))
    assert e.get_vecs_by_tokens("q").asnumpy().tolist() == [7, 7, 7]
    with pytest.raises(ValueError, match="Token q is unknown"):
        e.update_token_vectors("q", nd.array([7, 7, 7]))
    for tokens, vectors in ((["a", "b"], [7, 7, 7]), ("a", [7, 7]), ("a", [[1, 2, 3]] * 2)):
        with pytest.raises(AssertionError):
            e.update_token_vectors(tokens, nd.array(vectors))


def test_headers_and_unknown_vectors(path):
    with pytest.warns(UserWarning) as caught:
        e = text.embedding.CustomEmbedding(
            path("2 3\na 0.1 0.2 0.3\n<unk> 1 2 3\n<unk> 4 4 4\n"), init_unknown_vec=nd.ones
        )
    said = [str(w.message) for w in caught]
    assert "likely a header" in said[0] and "token <unk> comes again" in said[1]
    assert e.idx_to_token == ["<unk>", "a"] and e.idx_to_vec.asnumpy()[0].tolist() == [1, 2, 3]
    e = text.embedding.CustomEmbedding(path("a\t1\t2\n"), "\t", init_unknown_vec=nd.ones)
    assert e.idx_to_vec.asnumpy().tolist() == [[1, 1], [1, 2]]
    reserved = text.embedding.CustomEmbedding(path(PLAIN), reserved_tokens=["<pad>"])
    assert reserved.idx_to_token == ["<unk>", "<pad>", "a", "b"]
    assert reserved.get_vecs_by_tokens("b").asnumpy().tolist() == [1, 2, 3]  # MXNet: that of a


@pytest.mark.parametrize(
    ("content", "error", "says"),
    [
        ("a 0.1 0.2\nb 1 2 3\n", AssertionError, "line 2 .* dimension of token b is 3"),
        ("a\n", AssertionError, "line 1 .* unexpected"),
        ("a x y\n", ValueError, "line 1: could not convert"),
        ("", ValueError, "no vector"),
    ],
)
def test_broken_files(path, content, error, says):
    with pytest.raises(error, match=says):
        text.embedding.CustomEmbedding(path(content))
    with pytest.raises(ValueError, match="valid path"):
        text.embedding.CustomEmbedding(path("") + "no")


def test_vocabulary_of_an_embedding(path):
    v = text.vocab.Vocabulary(COUNTER, most_freq_count=2, reserved_tokens=["<pad>", "b"])
    e = text.embedding.CustomEmbedding(path(PLAIN), vocabulary=v)
    assert e.idx_to_token == v.idx_to_token and e.reserved_tokens == v.reserved_tokens
    wanted = [[0] * 3, [0] * 3, [1, 2, 3], [0] * 3, [0.1, 0.2, 0.3]]
    np.testing.assert_allclose(e.idx_to_vec.asnumpy(), wanted, 1e-6)
    both = text.embedding.CompositeEmbedding(
        v, [e, text.embedding.CustomEmbedding(path("c 5 6\n"))]
    )
    assert both.vec_len == 5 and both.idx_to_vec.asnumpy()[3].tolist() == [0, 0, 0, 5, 6]
    alone = text.embedding.CompositeEmbedding(v, e)
    assert alone.idx_to_vec.shape == (5, 3)
    for wrong in (([1], [e]), (v, [v])):
        with pytest.raises(AssertionError):
            text.embedding.CompositeEmbedding(*wrong)
    with pytest.raises(AssertionError):
        text.embedding.CustomEmbedding(path(PLAIN), vocabulary=["a"])


def test_names():
    names = text.embedding.get_pretrained_file_names()
    assert len(names["glove"]) == 10 and len(names["fasttext"]) == 327
    assert "wiki.en.vec" in text.embedding.get_pretrained_file_names("fasttext")
    assert text.embedding.get_pretrained_file_names("glove")[1] == "glove.6B.50d.txt"
    with pytest.raises(KeyError, match="Cannot find"):
        text.embedding.get_pretrained_file_names("x")
    with pytest.raises(KeyError, match="Cannot find pretrained file x"):
        text.embedding.create("glove", pretrained_file_name="x")
    with pytest.raises(AssertionError, match="not registered"):
        text.embedding.create("foo")
    archives = {text.embedding.GloVe._archive(n) for n in names["glove"]}
    assert archives == set(text.embedding.GloVe.archives)


def test_register():
    @text.embedding.register
    class MyEmbedding(text.embedding._TokenEmbedding):
        pretrained_file_name_sha1 = {"one.txt": None}

        def __init__(self, a=1, **kwargs):
            super().__init__(**kwargs)
            self.a = a

    assert text.embedding.create("myembedding", a=3).a == 3
    assert text.embedding.create("MyEmbedding").unknown_token == "<unk>"
    assert text.embedding.get_pretrained_file_names("myembedding") == ["one.txt"]


def test_published_files(tmp_path, monkeypatch):
    for kind, name in (("glove", "glove.6B.50d.txt"), ("fasttext", "wiki.simple.vec")):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / name).write_text(PLAIN)
        e = text.embedding.create(kind, pretrained_file_name=name, embedding_root=str(tmp_path))
        assert e.get_vecs_by_tokens("b").asnumpy().tolist() == [1, 2, 3]
    monkeypatch.setenv("MXNET_GLUON_REPO", "http://127.0.0.1:9/")  # nobody listens there
    with pytest.raises(RuntimeError, match="by hand"):
        text.embedding.FastText("wiki.en.vec", embedding_root=str(tmp_path))


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A folder that a server on this machine offers as MXNET_GLUON_REPO, without a slash at its end."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path / "repo")
    handler.log_message = lambda *_: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("MXNET_GLUON_REPO", f"http://127.0.0.1:{server.server_port}")
        yield tmp_path / "repo"
        server.shutdown()


def test_fetch(tmp_path, mirror):
    folder = mirror / "gluon" / "embeddings" / "fasttext"
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / "wiki.aa.zip", "w") as archive:
        archive.writestr("wiki.aa.vec", PLAIN)
        archive.writestr("../evil.txt", "x")
    e = text.embedding.FastText("wiki.aa.vec", embedding_root=str(tmp_path / "root"))
    assert len(e) == 3 and not list(tmp_path.rglob("evil.txt"))
    assert sorted(p.name for p in (tmp_path / "root").rglob("*.*")) == [
        "wiki.aa.vec",
        "wiki.aa.zip",
    ]


def test_a_damaged_archive_leaves_nothing(tmp_path, mirror):
    folder = mirror / "gluon" / "embeddings" / "fasttext"
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / "wiki.aa.zip", "w") as archive:
        archive.writestr("wiki.aa.vec", PLAIN)
    damaged = bytearray((folder / "wiki.aa.zip").read_bytes())
    damaged[damaged.index(b"1 2 3")] ^= 1
    (folder / "wiki.aa.zip").write_bytes(damaged)
    with pytest.raises(RuntimeError, match=r"wiki.aa.vec: Bad CRC-32.*by hand"):
        text.embedding.FastText("wiki.aa.vec", embedding_root=str(tmp_path / "root"))
    assert not [p for p in (tmp_path / "root").rglob("*") if p.suffix in (".vec", ".part")]


def test_face():
    assert contrib.text is text
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert {"text", "nd", "sym"} <= set(dir(contrib))
    with pytest.raises(AttributeError, match="it has"):
        contrib.nothing


def test_wikitext(tmp_path, mirror, monkeypatch):
    from minigluon.gluon.contrib.data import WikiText2
    from minigluon.gluon.contrib.data import text as module

    lines = " a b c\n\n = d e =\n a b a b\n"
    folder = mirror / "gluon" / "dataset" / "wikitext-2"
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / "wikitext-2-v1.zip", "w") as archive:
        archive.writestr("wikitext-2/wiki.valid.tokens", lines)
    monkeypatch.setattr(WikiText2, "_archive", ("wikitext-2-v1.zip", None))
    monkeypatch.setattr(WikiText2, "_files", {"validation": ("wiki.valid.tokens", None)})
    data = WikiText2(str(tmp_path / "root"), "validation", seq_len=4)
    tokens = data.vocabulary.to_tokens
    assert len(data) == 3 and data.frequencies["a"] == 3
    first, shifted = data[0]
    assert first.dtype == np.int32 and tokens([int(i) for i in first.asnumpy()]) == [
        "a",
        "b",
        "c",
        "<eos>",
    ]
    assert tokens([int(i) for i in shifted.asnumpy()]) == ["b", "c", "<eos>", "="]
    again = WikiText2(str(tmp_path / "root"), "validation", vocab=data.vocabulary, seq_len=5)
    assert len(again) == 2 and again.frequencies is None
    with pytest.raises(ValueError, match="segment"):
        module.WikiText103(str(tmp_path), "everything")
