"""A vocabulary turns words into numbers; an embedding file says where each word lies among the others."""

# Written from chapters/87_text.ipynb: edit the chapter, then run `minigluon export`.

import logging
import os
import shutil
import struct
import warnings
import zipfile
import zlib
from contextlib import suppress

import numpy as np

import minigluon.ndarray as nd
from minigluon import registry
from minigluon.base import MXNetError
from minigluon.contrib.text import vocab
from minigluon.gluon.utils import _get_repo_file_url, download, replace_file
from minigluon.ndarray.ndarray import NDArray
from minigluon.numpy.scope import as_asked

__all__ = [
    "CompositeEmbedding",
    "CustomEmbedding",
    "DAMAGED",
    "FastText",
    "GloVe",
    "LANGUAGES",
    "Published",
    "ROOT",
    "WIKI_NEWS",
    "create",
    "fetch",
    "get_pretrained_file_names",
    "parsed",
    "register",
    "taken_out",
]


# --- Embeddings -----------------------------------------------------------------------------------


class _TokenEmbedding(vocab.Vocabulary):
    """A vocabulary with a vector for each token; the base of the embeddings.

    Number 0, the unknown token, has the vector of the file, or one of `init_unknown_vec`.
    """

    pretrained_file_name_sha1 = {}

    @property
    def vec_len(self):
        """The length of a vector."""
        return self._vec_len

    @property
    def idx_to_vec(self):
        """The vectors, an array of shape (tokens, vec_len)."""
        return self._idx_to_vec

    # --- Embeddings -------------------------------------------------------------------------------

    def _load_embedding(self, path, elem_delim, init_unknown_vec, encoding="utf8"):
        """Read a file with a line `token number ... number` for each token."""
        path = os.path.expanduser(path)
        if not os.path.isfile(path):
            raise ValueError(
                "`pretrained_file_path` must be a valid path to the pre-trained token embedding "
                f"file; there is no file {path}"
            )
        logging.info("Loading pre-trained token embedding vectors from %s", path)
        rows, unknown = [], None
        with open(path, encoding=encoding) as file:
            for number, line in enumerate(file, 1):
                token, vector = parsed(line, elem_delim, path, number)
                if token == self.unknown_token and unknown is None:
                    unknown = vector
                elif token in self._token_to_idx and (token != self.unknown_token or unknown):
                    warnings.warn(
                        f"{path}, line {number}: token {token} comes again and is skipped",
                        stacklevel=4,
                    )
                elif len(vector) == 1:
                    warnings.warn(
                        f"{path}, line {number}: token {token} with one number, {vector[0]}, is "
                        "likely a header and is skipped",
                        stacklevel=4,
                    )
                else:
                    self._append(token, vector, rows, path, number)
        self._place(rows, unknown, init_unknown_vec, path)

    def _append(self, token, vector, rows, path, number):
        """Take a token and its vector; all are of one length."""
        assert not rows or len(vector) == len(rows[0]), (
            f"At line {number} of the pre-trained token embedding file: the dimension of token "
            f"{token} is {len(vector)} but the dimension of previous tokens is "
            f"{len(rows[0] if rows else vector)}. Dimensions of all the tokens must be the same."
        )
        rows.append(np.array(vector, "float32"))
        self._token_to_idx[token] = len(self._idx_to_token)
        self._idx_to_token.append(token)

    def _place(self, rows, unknown, init_unknown_vec, path):
        """Make the array of vectors: that of the unknown token, zeros for reserved ones, the others."""
        if not rows:
            raise ValueError(f"{path} holds no vector of two or more numbers")
        self._vec_len = len(rows[0])
        vectors = np.zeros((len(self._idx_to_token), self._vec_len), "float32")
        vectors[len(vectors) - len(rows) :] = rows
        self._idx_to_vec = as_asked(nd.array(vectors))
        first = init_unknown_vec(shape=self._vec_len) if unknown is None else nd.array(unknown)
        self._idx_to_vec[0] = first

    def get_vecs_by_tokens(self, tokens, lower_case_backup=False):
        """The vector of a token, or the vectors of a list; unknown ones have that of number 0.

        With `lower_case_backup`, a token that is not known is looked up in small letters.
        """
        several = tokens if isinstance(tokens, list) else [tokens]
        known = self._token_to_idx
        found = [known.get(t, known.get(t.lower(), 0) if lower_case_backup else 0) for t in several]
        vectors = self._idx_to_vec.take(nd.array(found, dtype="int64"), axis=0)
        return vectors if isinstance(tokens, list) else vectors[0]

    def update_token_vectors(self, tokens, new_vectors):
        """Give tokens other vectors; ValueError for an unknown token."""
        several = tokens if isinstance(tokens, list) else [tokens]
        axes = (1, 2) if len(several) == 1 else (2,)
        assert isinstance(new_vectors, NDArray) and new_vectors.ndim in axes, (
            "`new_vectors` must be a 2-D NDArray if `tokens` is a list of multiple strings."
            if len(several) > 1
            else "`new_vectors` must be a 1-D or 2-D NDArray if `tokens` is a singleton."
        )
        if new_vectors.ndim == 1:
            new_vectors = new_vectors.expand_dims(0)
        assert new_vectors.shape == (len(several), self.vec_len), (
            f"The new vectors have shape {new_vectors.shape}; {len(several)} tokens and a length of "
            f"{self.vec_len} make {(len(several), self.vec_len)}"
        )
        self._idx_to_vec[nd.array(list(map(self._known, several)), dtype="int64")] = new_vectors

    def _known(self, token):
        """The number of a token that is known."""
        if token in self._token_to_idx:
            return self._token_to_idx[token]
        raise ValueError(
            f"Token {token} is unknown. To update the embedding vector for an unknown token, please "
            f"specify it explicitly as the `unknown_token` {self.unknown_token} in `tokens`. This is "
            "to avoid unintended updates."
        )

    def _build_embedding_for_vocabulary(self, vocabulary):
        """Keep the tokens of a vocabulary only."""
        assert isinstance(vocabulary, vocab.Vocabulary), (
            "The argument `vocabulary` must be an instance of mxnet.contrib.text.vocab.Vocabulary."
        )
        self._set_vectors([self], vocabulary)
        self._index_tokens_from_vocabulary(vocabulary)

    def _index_tokens_from_vocabulary(self, vocabulary):
        self._token_to_idx = dict(vocabulary.token_to_idx)
        self._idx_to_token = list(vocabulary.idx_to_token)
        self._unknown_token = vocabulary.unknown_token
        reserved = vocabulary.reserved_tokens
        self._reserved_tokens = None if reserved is None else list(reserved)

    def _set_vectors(self, embeddings, vocabulary):
        """The vectors of several embeddings, one behind the other, for each token."""
        tokens = vocabulary.idx_to_token[1:]
        parts = []
        for e in embeddings:
            first = e.idx_to_vec[0:1]
            others = [e.get_vecs_by_tokens(tokens)] if tokens else []
            parts.append(nd.concat(first, *others, dim=0))
        self._idx_to_vec = nd.concat(*parts, dim=1)
        self._vec_len = self._idx_to_vec.shape[1]


def parsed(line, elem_delim, path, number):
    """Token and numbers of a line; AssertionError or ValueError, with its number, if it has none."""
    token, *elements = line.rstrip().split(elem_delim)
    assert elements, (
        f"At line {number} of the pre-trained text embedding file: the data format of the "
        f"pre-trained token embedding file {path} is unexpected."
    )
    try:
        return token, [float(e) for e in elements]
    except ValueError as error:
        raise ValueError(f"{path}, line {number}: {error}") from None


# --- By name --------------------------------------------------------------------------------------

register = registry.get_register_func(_TokenEmbedding, "token embedding")
create = registry.get_create_func(_TokenEmbedding, "token embedding")


def get_pretrained_file_names(embedding_name=None):
    """The names of the files of an embedding, or a dict {embedding: names of files}."""
    known = registry.get_registry(_TokenEmbedding)
    if embedding_name is None:
        return {name: list(klass.pretrained_file_name_sha1) for name, klass in known.items()}
    if embedding_name not in known:
        raise KeyError(
            f"Cannot find `embedding_name` {embedding_name}. Use `get_pretrained_file_names("
            f"embedding_name=None).keys()` to get all the valid embedding names: {', '.join(known)}"
        )
    return list(known[embedding_name].pretrained_file_name_sha1)


class CustomEmbedding(_TokenEmbedding):
    """An embedding from a file of your own: a line `token number ... number` for each token."""

    def __init__(
        self,
        pretrained_file_path,
        elem_delim=" ",
        encoding="utf8",
        init_unknown_vec=nd.zeros,
        vocabulary=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self._load_embedding(pretrained_file_path, elem_delim, init_unknown_vec, encoding)
        if vocabulary is not None:
            self._build_embedding_for_vocabulary(vocabulary)


class CompositeEmbedding(_TokenEmbedding):
    """Several embeddings, their vectors one behind the other, for the tokens of a vocabulary."""

    def __init__(self, vocabulary, token_embeddings):
        assert isinstance(vocabulary, vocab.Vocabulary), (
            "The argument `vocabulary` must be an instance of mxnet.contrib.text.indexer.Vocabulary."
        )
        several = token_embeddings if isinstance(token_embeddings, list) else [token_embeddings]
        assert all(isinstance(e, _TokenEmbedding) for e in several), (
            "The argument `token_embeddings` must be an instance or a list of instances of "
            "`mxnet.contrib.text.embedding.TextEmbedding`, whose vectors are put together."
        )
        self._index_tokens_from_vocabulary(vocabulary)
        self._set_vectors(several, vocabulary)


# --- Published files ------------------------------------------------------------------------------

ROOT = os.path.join(os.environ.get("MXNET_HOME", os.path.join("~", ".mxnet")), "embeddings")


class Published(_TokenEmbedding):
    """An embedding of a published file: in `embedding_root`/name of the class, or fetched to there."""

    def _load_published(self, name, root, init_unknown_vec, vocabulary):
        kind, klass = type(self).__name__.lower(), type(self)
        if name not in klass.pretrained_file_name_sha1:
            raise KeyError(
                f"Cannot find pretrained file {name} for token embedding {kind}. Valid pretrained "
                f"files for embedding {kind}: {', '.join(klass.pretrained_file_name_sha1)}"
            )
        path = os.path.join(os.path.expanduser(root), kind, name)
        if not os.path.exists(path):
            fetch(klass._archive(name), kind, path, klass.archives)
        self._load_embedding(path, " ", init_unknown_vec)
        if vocabulary is not None:
            self._build_embedding_for_vocabulary(vocabulary)

    archives = {}  # name of an archive -> its SHA-1, where it is known


def fetch(archive, kind, path, known):
    """Download an archive and take the file `path` out of it;
    RuntimeError that says what to do by hand.
    """
    url = _get_repo_file_url(f"gluon/embeddings/{kind}", archive)
    local = os.path.join(os.path.dirname(path), archive)
    try:
        taken_out(download(url, local, sha1_hash=known.get(archive), retries=1), path)
    except (OSError, RuntimeError, UserWarning, MXNetError) as error:
        raise RuntimeError(
            f"cannot fetch {url}: {error}. Put the file at {path} by hand, or read your own file "
            "with CustomEmbedding"
        ) from error


DAMAGED = zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError, OverflowError
DAMAGED += NotImplementedError, RuntimeError, struct.error, UnicodeDecodeError


def taken_out(archive, path):
    """Write the member of a zip archive that is called as `path` is, in any folder, to `path`.

    Whole or not at all; where the member's name may lead does not count. MXNetError for a damaged
    archive.
    """
    name, part = os.path.basename(path), f"{path}.{os.getpid()}.part"
    try:
        with zipfile.ZipFile(archive) as packed:
            members = {os.path.basename(member.filename): member for member in packed.infolist()}
            if members[name].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError("neither stored nor deflated")  # others may ask for much memory
            with packed.open(members[name]) as source, open(part, "wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
        replace_file(part, path)
    except DAMAGED as error:
        raise MXNetError(f"{archive}: cannot take out {name}: {error}") from error
    finally:
        with suppress(FileNotFoundError):
            os.remove(part)


@register
class GloVe(Published):
    """The vectors of Pennington, Socher and Manning, "GloVe: global vectors" (2014)."""

    archives = {
        "glove.42B.300d.zip": "f8e722b39578f776927465b71b231bae2ae8776a",
        "glove.6B.zip": "b64e54f1877d2f735bdd000c1d7d771e25c7dfdc",
        "glove.840B.300d.zip": "8084fbacc2dee3b1fd1ca4cc534cbfff3519ed0d",
        "glove.twitter.27B.zip": "dce69c404025a8312c323197347695e81fd529fc",
    }
    pretrained_file_name_sha1 = {
        "glove.42B.300d.txt": "876767977d6bd4d947c0f84d44510677bc94612a",
        "glove.6B.50d.txt": "21bf566a9d27f84d253e0cd4d4be9dcc07976a6d",
        "glove.6B.100d.txt": "16b1dbfaf35476790bd9df40c83e2dfbd05312f1",
        "glove.6B.200d.txt": "17d0355ddaa253e298ede39877d1be70f99d9148",
        "glove.6B.300d.txt": "646443dd885090927f8215ecf7a677e9f703858d",
        "glove.840B.300d.txt": "294b9f37fa64cce31f9ebb409c266fc379527708",
        "glove.twitter.27B.25d.txt": "767d80889d8c8a22ae7cd25e09d0650a6ff0a502",
        "glove.twitter.27B.50d.txt": "9585f4be97e286339bf0112d0d3aa7c15a3e864d",
        "glove.twitter.27B.100d.txt": "1bbeab8323c72332bd46ada0fc3c99f2faaa8ca8",
        "glove.twitter.27B.200d.txt": "7921c77a53aa5977b1d9ce3a7c4430cbd9d1207a",
    }

    def __init__(
        self,
        pretrained_file_name="glove.840B.300d.txt",
        embedding_root=ROOT,
        init_unknown_vec=nd.zeros,
        vocabulary=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self._load_published(pretrained_file_name, embedding_root, init_unknown_vec, vocabulary)

    @staticmethod
    def _archive(name):
        """The archive that holds a file: that of its corpus."""
        corpus = name.split(".")[1] if "twitter" not in name else "twitter"
        return next(archive for archive in GloVe.archives if archive.split(".")[1] == corpus)


WIKI_NEWS = "wiki-news-300d-1M-subword.vec", "wiki-news-300d-1M.vec"
LANGUAGES = """
aa ab ace ady af ak als am ang an arc ar arz ast as av ay azb az bar bat_smg ba bcl be bg bh
bi bjn bm bn bo bpy br bs bug bxr ca cbk_zam cdo ceb ce cho chr ch chy ckb co crh cr csb cs cu
cv cy da de diq dsb dv dz ee el eml en eo es et eu ext fa ff fiu_vro fi fj fo frp frr fr fur
fy gag gan ga gd glk gl gn gom got gu gv hak ha haw he hif hi ho hr hsb ht hu hy hz ia id ie
ig ii ik ilo io is it iu jam ja jbo jv kaa kab ka kbd kg ki kj kk kl km kn koi ko krc kr ksh
ks ku kv kw ky lad la lbe lb lez lg lij li lmo ln lo lrc ltg lt lv mai map_bms mdf mg mhr mh
min mi mk ml mn mo mrj mr ms mt multi.ar multi.bg multi.ca multi.cs multi.da multi.de multi.el
multi.en multi.es multi.et multi.fi multi.fr multi.he multi.hr multi.hu multi.id multi.it
multi.mk multi.nl multi.no multi.pl multi.pt multi.ro multi.ru multi.sk multi.sl multi.sv
multi.tr multi.uk multi.vi mus mwl my myv mzn nah nap na nds_nl nds ne new ng nl nn no nov nrm
nso nv ny oc olo om or os pag pam pap pa pcd pdc pfl pih pi pl pms pnb pnt ps pt qu rm rmy rn
roa_rup roa_tara ro rue ru rw sah sa scn sco sc sd se sg sh simple si sk sl sm sn so sq srn sr
ss stq st su sv sw szl ta tcy tet te tg th ti tk tl tn to tpi tr ts tt tum tw ty tyv udm ug uk
ur uz vec vep ve vi vls vo war wa wo wuu xal xh xmf yi yo za zea zh_classical zh_min_nan zh
zh_yue zu
"""


@register
class FastText(Published):
    """The vectors of Bojanowski et al., "Enriching word vectors with subword information" (2016)."""

    pretrained_file_name_sha1 = dict.fromkeys(
        ["crawl-300d-2M.vec", *WIKI_NEWS, *(f"wiki.{code}.vec" for code in LANGUAGES.split())]
    )

    def __init__(
        self,
        pretrained_file_name="wiki.simple.vec",
        embedding_root=ROOT,
        init_unknown_vec=nd.zeros,
        vocabulary=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self._load_published(pretrained_file_name, embedding_root, init_unknown_vec, vocabulary)

    @staticmethod
    def _archive(name):
        """The archive that holds a file."""
        return name.rsplit(".", 1)[0] + ".zip"
