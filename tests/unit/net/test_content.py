"""Content hashes: equal for equal slices alone, and descriptions from the network are checked."""

from __future__ import annotations

import numpy as np
import pytest

from edgeflow.errors import CodecError, WorkerOverloadedError
from edgeflow.net.content import Content, check_content, content_hash, content_of, is_hash, new_digest

ARRAY = np.arange(6, dtype=np.float32).reshape(2, 3)
NAME = content_hash(ARRAY, dtype="float32")


def test_a_hash_is_golden() -> None:
    """Workers keep slices on disk by this name, over updates of edgeflow."""
    assert NAME == "9b653b7e1cdb46582ecb0299717a37d23e9b7f0cf81da3b6bde5d545e499b9dd"
    assert is_hash(NAME)


def test_dtype_shape_and_values_make_the_name() -> None:
    changed = ARRAY.copy()
    changed[1, 2] = -1
    others = {
        content_hash(changed, dtype="float32"),
        content_hash(ARRAY.reshape(3, 2), dtype="float32"),
        content_hash(ARRAY.view(np.int32), dtype="int32"),
    }
    assert len(others | {NAME}) == 4
    assert content_hash(np.asfortranarray(ARRAY), dtype="float32") == NAME  # the layout in memory does not


def test_a_hash_can_be_made_in_pieces() -> None:
    digest = new_digest("float32", (2, 3))
    data = ARRAY.tobytes()
    for start in range(0, len(data), 7):
        digest.update(data[start : start + 7])
    assert digest.hexdigest() == NAME


def test_a_description_knows_its_size() -> None:
    assert content_of(ARRAY, dtype="float32") == Content(NAME, "float32", (2, 3))
    assert content_of(ARRAY, dtype="float32").num_bytes == ARRAY.nbytes
    assert Content(NAME, "bfloat16", ()).num_bytes == 2


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (Content(NAME[:-1], "float32", (2,)), "is not a content hash"),
        (Content(NAME.upper(), "float32", (2,)), "is not a content hash"),
        (Content(f"{NAME}\n", "float32", (2,)), "is not a content hash"),
        (Content("../" + NAME[3:], "float32", (2,)), "is not a content hash"),
        (Content(NAME, "float33", (2,)), "unknown dtype 'float33'"),
        (Content(NAME, "float32", (2, -1)), r"shape \(2, -1\)"),
    ],
)
def test_malformed_descriptions_are_refused(content: Content, says: str) -> None:
    with pytest.raises(CodecError, match=says):
        check_content(content, max_bytes=1000)


def test_a_slice_that_is_too_large_is_refused() -> None:
    content = Content(NAME, "float32", (5, 5))
    check_content(content, max_bytes=100)
    with pytest.raises(WorkerOverloadedError, match="a slice of 100 bytes, the limit is 99"):
        check_content(content, max_bytes=99)
