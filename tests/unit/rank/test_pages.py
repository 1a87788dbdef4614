"""The pool of pages: what is dropped is used again, and never while somebody can still see it."""

from __future__ import annotations

import random
import threading

import numpy as np
import pytest

from edgeflow.graph.ir import NUMPY_DTYPES, Array
from edgeflow.rank.pages import PAGE_BYTES, PagePool

BYTE = np.dtype(np.uint8)


@pytest.mark.parametrize("dtype", NUMPY_DTYPES)
def test_arrays_are_what_was_asked_for(dtype: str) -> None:
    pool = PagePool()
    for shape in [(), (0, 5), (3,), (2, PAGE_BYTES), (3, 1, PAGE_BYTES + 1)]:
        array = pool.empty(shape, NUMPY_DTYPES[dtype])
        assert array.shape == shape and array.dtype == NUMPY_DTYPES[dtype]
        assert array.flags.c_contiguous and array.flags.writeable and array.flags.aligned


def test_pages_come_back_when_the_last_view_goes() -> None:
    pool = PagePool()
    array = pool.empty((4, PAGE_BYTES), BYTE)
    view = array[1:2].view(np.int32).reshape(-1)[::2]
    address = array.ctypes.data
    del array
    pool.empty((2 * PAGE_BYTES,), BYTE)
    assert pool.used_bytes == 6 * PAGE_BYTES  # the view still sees the four
    del view
    again = pool.empty((4, PAGE_BYTES), BYTE)
    assert again.ctypes.data == address and pool.used_bytes == 4 * PAGE_BYTES


def test_a_tensor_of_torch_keeps_the_pages() -> None:
    torch = pytest.importorskip("torch")
    pool = PagePool()
    tensor = torch.from_numpy(pool.empty((PAGE_BYTES,), np.dtype(np.float32)))
    other = pool.empty((PAGE_BYTES,), np.dtype(np.float32))
    tensor.fill_(1.0)
    other[...] = 2.0
    assert bool((tensor == 1.0).all())
    assert pool.used_bytes == 8 * PAGE_BYTES


def test_the_peak_is_the_most_at_once() -> None:
    pool = PagePool()
    for _ in range(20):
        pool.empty((10 * PAGE_BYTES,), BYTE)
    pool.empty((1,), BYTE)
    assert pool.peak_bytes == 10 * PAGE_BYTES
    assert pool.held_bytes == 10 * PAGE_BYTES


def test_pages_of_one_size_become_pages_of_another() -> None:
    """What was cut into small runs is put together again before the system is asked for more."""
    pool = PagePool()
    small = [pool.empty((4 * PAGE_BYTES,), BYTE) for _ in range(16)]
    assert pool.held_bytes == 64 * PAGE_BYTES
    del small[::2]
    pool.empty((5 * PAGE_BYTES,), BYTE)
    assert pool.held_bytes == 69 * PAGE_BYTES  # every gap was of four pages
    small.clear()
    pool.empty((69 * PAGE_BYTES,), BYTE)
    assert pool.held_bytes == 69 * PAGE_BYTES


def test_trim_gives_back_what_nobody_uses() -> None:
    pool = PagePool()
    kept = pool.empty((2 * PAGE_BYTES,), BYTE)
    large = pool.empty((1000 * PAGE_BYTES,), BYTE)
    del large
    pool.empty((5000 * PAGE_BYTES,), BYTE)
    assert pool.held_bytes == 6002 * PAGE_BYTES
    pool.trim()
    assert pool.held_bytes == 1002 * PAGE_BYTES  # of addresses that came together all are kept
    kept[...] = 1
    del kept
    pool.trim()
    assert pool.held_bytes == 0


def test_arrays_never_overlap() -> None:
    """Many threads take, fill, check and drop arrays of any size."""
    pool = PagePool()
    failures: list[str] = []

    def work(number: int) -> None:
        rng = random.Random(number)
        held: list[tuple[Array, int]] = []
        for step in range(300):
            array = pool.empty((rng.randint(1, 9 * PAGE_BYTES),), BYTE)
            mark = (step * 7 + number) % 256
            array[:: PAGE_BYTES // 2] = mark
            held.append((array, mark))
            if len(held) > 6:
                other, expected = held.pop(rng.randrange(len(held)))
                if not (other[:: PAGE_BYTES // 2] == expected).all():
                    failures.append(f"thread {number}, step {step}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    pool.trim()
    assert pool.used_bytes == pool.held_bytes == 0
