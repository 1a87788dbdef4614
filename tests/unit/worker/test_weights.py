"""Weights by content: what is in the cache is what its name says, or it is not there."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from edgeflow.errors import CodecError, ConfigError, WorkerFailedError, WorkerOverloadedError
from edgeflow.graph.ir import NUMPY_DTYPES, Array
from edgeflow.net.content import Content, check_content, content_hash, content_of
from edgeflow.worker.weights import WeightCache, default_folder


@pytest.fixture
def cache(tmp_path: Path) -> WeightCache:
    return WeightCache(tmp_path / "weights", limit_bytes=1000)


def put(cache: WeightCache, array: Array, *, chunk_bytes: int = 7) -> Content:
    content = content_of(array, dtype=str(array.dtype))
    writer, data = cache.writer(content), array.tobytes()
    for offset in range(0, len(data), chunk_bytes):
        writer.write(offset, data[offset : offset + chunk_bytes])
    writer.finish()
    return content


def files(cache: WeightCache) -> list[str]:
    return sorted(path.name for path in cache._folder.iterdir())


@pytest.mark.parametrize("dtype", NUMPY_DTYPES)
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3)])
def test_a_slice_comes_back(cache: WeightCache, dtype: str, shape: tuple[int, ...]) -> None:
    array = np.ones(shape, NUMPY_DTYPES[dtype])
    content = content_of(array, dtype=dtype)
    assert not cache.has(content)
    put(cache, array)
    assert cache.has(content)
    back = cache.load(content)
    assert back.dtype == array.dtype and back.shape == shape and np.array_equal(back, array)
    assert back.flags.writeable
    assert files(cache) == [content.content_hash]


def test_the_hash_covers_dtype_shape_and_bytes() -> None:
    zeros = np.zeros((2, 3), np.float32)
    others = [zeros.reshape(3, 2), zeros.view(np.int32), zeros + 1]
    names = {content_hash(array, dtype=str(array.dtype)) for array in [zeros, *others]}
    assert len(names) == 4
    assert content_hash(zeros.T.copy().T, dtype="float32") == content_hash(zeros, dtype="float32")


def test_other_bytes_than_announced_leave_nothing(cache: WeightCache) -> None:
    content = content_of(np.zeros(4, np.float32), dtype="float32")
    writer = cache.writer(content)
    writer.write(0, np.ones(4, np.float32).tobytes())
    with pytest.raises(CodecError, match="is not"):
        writer.finish()
    assert files(cache) == [] and not cache.has(content)


def test_chunks_come_in_order_and_all(cache: WeightCache) -> None:
    content = content_of(np.zeros(4, np.float32), dtype="float32")
    writer = cache.writer(content)
    writer.write(0, b"\0" * 4)
    with pytest.raises(CodecError, match="a chunk at 8, 4 was due"):
        writer.write(8, b"\0" * 4)
    with pytest.raises(CodecError, match="more than the 16 bytes"):
        writer.write(4, b"\0" * 13)
    with pytest.raises(CodecError, match="4 of 16 bytes arrived"):
        writer.finish()
    writer.discard()
    assert files(cache) == []


@pytest.mark.parametrize("damage", [b"", b"\1" * 16, b"\0" * 17])
def test_a_damaged_file_is_no_file(cache: WeightCache, damage: bytes) -> None:
    content = put(cache, np.zeros(4, np.float32))
    (cache._folder / content.content_hash).write_bytes(damage)
    with pytest.raises(WorkerFailedError, match="damaged"):
        cache.load(content)
    assert files(cache) == [] and not cache.has(content)
    with pytest.raises(WorkerFailedError, match="not in the cache"):
        cache.load(content)


def test_the_least_recently_used_makes_room(cache: WeightCache) -> None:
    old, recent = (put(cache, np.full(100, value, np.float32)) for value in (1, 2))
    now_s = time.time()
    os.utime(cache._folder / old.content_hash, (now_s - 200, now_s - 200))
    os.utime(cache._folder / recent.content_hash, (now_s - 100, now_s - 100))
    put(cache, np.full(100, 3, np.float32))
    assert not cache.has(old) and cache.has(recent)


def test_what_is_needed_now_is_not_forgotten(cache: WeightCache) -> None:
    kept = put(cache, np.zeros(200, np.float32))
    other = content_of(np.ones(200, np.float32), dtype="float32")
    with pytest.raises(WorkerOverloadedError, match="at most 1,000 bytes, 600 too few"):
        cache.writer(other, keep=[kept.content_hash])
    assert cache.has(kept)


def test_what_a_dead_worker_left_is_removed_and_strange_files_stay(cache: WeightCache) -> None:
    for name, age_s in (("part-old", 100_000), ("part-new", 10), ("notes.txt", 100_000)):
        (cache._folder / name).write_bytes(b"x")
        os.utime(cache._folder / name, (time.time() - age_s,) * 2)
    content = put(cache, np.zeros(1, np.float32))
    assert files(cache) == sorted([content.content_hash, "part-new", "notes.txt"])


@pytest.mark.parametrize("name", ["", "../x", "/etc/passwd", "A" * 64, "0" * 63, "0" * 64 + "\n", "0" * 65])
def test_only_a_hash_becomes_a_path(cache: WeightCache, name: str) -> None:
    content = Content(name, "float32", (1,))
    with pytest.raises(CodecError, match="not a content hash"):
        check_content(content, max_bytes=100)
    for use in (cache.has, cache.load, cache.writer):
        with pytest.raises(CodecError, match="not a content hash"):
            use(content)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (Content("0" * 64, "complex64", (1,)), "unknown dtype"),
        (Content("0" * 64, "float32", (-1,)), "shape"),
        (Content("0" * 64, "float32", (2**40, 2**40)), "bytes, the limit is 100"),
    ],
)
def test_contents_that_are_refused(content: Content, says: str) -> None:
    with pytest.raises((CodecError, WorkerOverloadedError), match=says):
        check_content(content, max_bytes=100)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="cache folder"):
        WeightCache(tmp_path / "file" / "weights")


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEFLOW_CACHE_DIR", "/a/b")
    assert default_folder() == Path("/a/b")
    monkeypatch.delenv("EDGEFLOW_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", "/c")
    assert default_folder() == Path("/c/edgeflow/weights")
