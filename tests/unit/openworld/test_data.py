"""Readers, on files made here in exactly the published formats; and what they say about damaged ones."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from edgeflow.errors import ConfigError
from edgeflow.openworld import data


def _idx(array: np.ndarray) -> bytes:
    head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(np.uint8).tobytes()


def test_digits_are_all_there_and_held_out_ones_are_others() -> None:
    train, test = data.load("digits", "train"), data.load("digits", "test")

    assert (len(train), len(test)) == (1438, 359)
    assert train.images_NCHW.shape[1:] == (1, 8, 8)
    assert int(train.images_NCHW.max()) == 255
    assert sorted(set(test.labels_N.tolist())) == list(range(10))


@pytest.mark.parametrize("part", ["train", "test"])
def test_fashion_mnist_files(tmp_path: Path, part: str, rng: np.random.Generator) -> None:
    images, labels = rng.integers(0, 256, (7, 28, 28)), rng.integers(0, 10, 7)
    stem = "train" if part == "train" else "t10k"
    (tmp_path / f"{stem}-images-idx3-ubyte.gz").write_bytes(gzip.compress(_idx(images)))
    (tmp_path / f"{stem}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(_idx(labels)))

    read = data.load("fashion-mnist", part, folder=tmp_path)  # type: ignore[arg-type]

    assert np.array_equal(read.images_NCHW[:, 0].numpy(), images)
    assert read.labels_N.tolist() == labels.tolist()
    assert read.class_names[9] == "ankle boot"


def test_missing_fashion_mnist_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="apt-get install dataset-fashion-mnist"):
        data.load("fashion-mnist", "train", folder=tmp_path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda raw: raw[:-1], r"has 5 elements, its sizes \[2, 3\] say 6"),
        (lambda raw: raw + b"x", "has 7 elements"),
        (lambda raw: b"\x00\x00\x0d" + raw[3:], "is not an IDX file of bytes: it begins with 00 00 0d"),
        (lambda raw: raw[:6], "ends within its sizes, after 6 bytes"),
        (lambda raw: b"", "is not an IDX file"),
    ],
)
def test_damaged_idx_files_are_refused(
    tmp_path: Path, damage: Callable[[bytes], bytes], message: str
) -> None:
    path = tmp_path / "a-idx"
    path.write_bytes(damage(_idx(np.arange(6).reshape(2, 3))))

    with pytest.raises(ConfigError, match=message):
        data.read_idx(path)


def test_half_a_gzip_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(_idx(np.arange(6)))[:-6])

    with pytest.raises(ConfigError, match="is not a complete gzip file"):
        data.read_idx(path)


def test_cifar_10_binary(tmp_path: Path, rng: np.random.Generator) -> None:
    records = rng.integers(0, 256, (10, 3073)).astype(np.uint8)
    records[:, 0] = np.arange(10)
    for number in range(5):
        (tmp_path / f"data_batch_{number + 1}.bin").write_bytes(
            records[2 * number : 2 * number + 2].tobytes()
        )
    (tmp_path / "test_batch.bin").write_bytes(records[:3].tobytes())
    (tmp_path / "batches.meta.txt").write_text("\n".join(f"class{i}" for i in range(10)) + "\n\n")

    train, test = (data.load("cifar-10", part, folder=tmp_path) for part in ("train", "test"))  # type: ignore[arg-type]

    assert (len(train), len(test)) == (10, 3)
    assert train.labels_N.tolist() == list(range(10))
    assert train.images_NCHW[4, 2, 5, 6] == records[4, 1 + 2 * 1024 + 5 * 32 + 6]
    assert train.class_names[3] == "class3"


def test_cifar_100_binary_has_two_labels_of_which_the_fine_one_counts(tmp_path: Path) -> None:
    records = np.zeros((2, 3074), dtype=np.uint8)
    records[:, 0], records[:, 1], records[1, 2] = 19, [99, 7], 200
    for part in ("train", "test"):
        (tmp_path / f"{part}.bin").write_bytes(records.tobytes())
    (tmp_path / "fine_label_names.txt").write_text("\n".join(f"fine{i}" for i in range(100)))

    read = data.load("cifar-100", "test", folder=tmp_path)

    assert read.labels_N.tolist() == [99, 7]
    assert read.images_NCHW[1, 0, 0, 0] == 200


def test_a_torn_cifar_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "test_batch.bin").write_bytes(bytes(3072))

    with pytest.raises(ConfigError, match="3072 bytes are not a multiple of the record size 3073"):
        data.load("cifar-10", "test", folder=tmp_path)


def _picture(path: Path, colour: tuple[int, int, int], size: tuple[int, int]) -> None:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def test_folder_of_pictures(tmp_path: Path) -> None:
    for part in ("train", "val"):
        _picture(tmp_path / part / "n01" / "a.png", (255, 0, 0), (40, 20))
        _picture(tmp_path / part / "n02" / "b.JPEG", (0, 0, 255), (16, 30))
        (tmp_path / part / "n02" / "notes.txt").write_text("no picture")

    read = data.load("folder", "test", folder=tmp_path, image_size=12)

    assert read.images_NCHW.shape == (2, 3, 12, 12)
    assert read.class_names == ("n01", "n02")
    assert read.images_NCHW[0, :, 3, 3].tolist() == [255, 0, 0]


def test_a_list_of_classes_picks_some_of_a_larger_set(tmp_path: Path) -> None:
    for name in ("n01", "n02", "n03"):
        _picture(tmp_path / "train" / name / "a.png", (1, 2, 3), (8, 8))
    (tmp_path / "classes.txt").write_text("n03\nn01 first words count\n")

    assert data.load("folder", "train", folder=tmp_path, image_size=8).class_names == ("n03", "n01")

    (tmp_path / "classes.txt").write_text("n09\n")
    with pytest.raises(ConfigError, match="names 'n09', but there is no folder"):
        data.load("folder", "train", folder=tmp_path, image_size=8)


def test_a_broken_picture_is_named(tmp_path: Path) -> None:
    path = tmp_path / "train" / "n01" / "a.png"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"not a picture")

    with pytest.raises(ConfigError, match=r"cannot read the picture .*a\.png"):
        data.load("folder", "train", folder=tmp_path)


def test_a_subset_has_as_many_of_each_class_and_depends_on_its_seed() -> None:
    digits = data.load("digits", "train")

    subset = digits.subset(103, seed=1)

    assert sorted(torch.bincount(subset.labels_N).tolist()) == [10] * 7 + [11] * 3
    assert torch.equal(subset.images_NCHW, digits.subset(103, seed=1).images_NCHW)
    assert not torch.equal(subset.images_NCHW, digits.subset(103, seed=2).images_NCHW)
    with pytest.raises(ConfigError, match="1500 images need 150 of class"):
        digits.subset(1500, seed=0)


def test_unknown_data_set() -> None:
    with pytest.raises(ConfigError, match="unknown data set 'mnist'; there are 5: digits"):
        data.load("mnist", "train")
