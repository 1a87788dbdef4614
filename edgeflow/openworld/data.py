"""Labelled pictures as one tensor: scikit-learn's digits, Fashion-MNIST, CIFAR, folders of image files.

Nothing is downloaded. Each reader takes files as they are published, and says how to get missing ones. CIFAR
is read in its binary version, because the Python version is a pickle, which can execute code.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import torch
from torch import Tensor

from edgeflow.errors import ConfigError

Part = Literal["train", "test"]

#: Folder of Debian's package.
FASHION_MNIST_FOLDER: Final = Path("/usr/share/datasets/fashion-mnist")
FASHION_MNIST_CLASSES: Final = (
    "T-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
#: Every fifth picture of the digits is held out: they come without a test part.
_DIGITS_TEST_EVERY: Final = 5
_IMAGE_ENDINGS: Final = (".jpeg", ".jpg", ".png", ".bmp", ".webp")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSet:
    """Pictures of one size, with their classes.

    Attributes:
        name: Name of the data set.
        images_NCHW: uint8.
        labels_N: int64, positions in ``class_names``.
        class_names: In the data set's own order.

    Raises:
        ConfigError: If the parts do not fit each other.
    """

    name: str
    images_NCHW: Tensor
    labels_N: Tensor
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        shape = tuple(self.images_NCHW.shape)
        if len(shape) != 4 or self.images_NCHW.dtype != torch.uint8:
            raise ConfigError(
                f"{self.name}: images are uint8 (N, C, H, W), got {shape}, {self.images_NCHW.dtype}"
            )
        if self.labels_N.shape != shape[:1] or self.labels_N.dtype != torch.int64:
            raise ConfigError(f"{self.name}: {shape[0]} images have {tuple(self.labels_N.shape)} labels")
        if len(self) and not 0 <= int(self.labels_N.min()) <= int(self.labels_N.max()) < self.num_classes:
            raise ConfigError(f"{self.name}: a label is outside of the {self.num_classes} classes")

    def __len__(self) -> int:
        return len(self.images_NCHW)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def image_size(self) -> int:
        """Rows, and columns, of a picture."""
        return int(self.images_NCHW.shape[2])

    @property
    def in_channels(self) -> int:
        return int(self.images_NCHW.shape[1])

    def take(self, indices_N: Tensor) -> ImageSet:
        """Return the pictures at ``indices_N``, in that order."""
        return ImageSet(
            name=self.name,
            images_NCHW=self.images_NCHW[indices_N],
            labels_N=self.labels_N[indices_N],
            class_names=self.class_names,
        )

    def subset(self, num_images: int | None, *, seed: int) -> ImageSet:
        """Return ``num_images`` pictures drawn by ``seed``: equally many of each class, or one more.

        Raises:
            ConfigError: If a class has too few pictures.
        """
        if num_images is None or num_images == len(self):
            return self
        generator = torch.Generator().manual_seed(seed)
        chosen = []
        for label in range(self.num_classes):
            wanted = num_images // self.num_classes + (label < num_images % self.num_classes)
            members = (self.labels_N == label).nonzero().flatten()
            if wanted > len(members):
                raise ConfigError(
                    f"{self.name}: {num_images} images need {wanted} of class {self.class_names[label]!r}, "
                    f"there are {len(members)}"
                )
            chosen.append(members[torch.randperm(len(members), generator=generator)[:wanted]])
        return self.take(torch.cat(chosen).sort().values)


def load(name: str, part: Part, *, folder: Path | None = None, image_size: int | None = None) -> ImageSet:
    """Return a part of a data set.

    Args:
        name: ``digits``, ``fashion-mnist``, ``cifar-10``, ``cifar-100`` or ``folder``.
        part: ``train`` or ``test``.
        folder: Folder of its files; not needed for digits and for an installed ``dataset-fashion-mnist``.
        image_size: With ``folder``: rows and columns to scale all pictures to. (default: 96)

    Raises:
        ConfigError: If there is no such data set, or its files are missing or damaged.

    Examples:
        >>> load("digits", "test").images_NCHW.shape
        torch.Size([359, 1, 8, 8])
    """
    if name not in _READERS:
        raise ConfigError(f"unknown data set {name!r}; there are {len(_READERS)}: {', '.join(_READERS)}")
    if image_size is not None and name != "folder":
        raise ConfigError(f"the pictures of {name} have a fixed size; image_size is for folders only")
    return _READERS[name](part, folder, image_size or 96)


def digits(part: Part) -> ImageSet:
    """Return scikit-learn's digits: 1,797 grey pictures of 8x8, of which every fifth is held out."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ConfigError(f"the digits come with scikit-learn ({error}): pip install scikit-learn") from error
    read = load_digits()
    held_out = np.arange(len(read.target)) % _DIGITS_TEST_EVERY == _DIGITS_TEST_EVERY - 1
    chosen = held_out if part == "test" else ~held_out
    pixels = np.rint(read.images[chosen] * (255 / 16)).astype(np.uint8)  # their values go from 0 to 16
    return ImageSet(
        name="digits",
        images_NCHW=torch.from_numpy(pixels)[:, None],
        labels_N=torch.from_numpy(read.target[chosen].astype(np.int64)),
        class_names=tuple("0123456789"),
    )


def fashion_mnist(part: Part, *, folder: Path = FASHION_MNIST_FOLDER) -> ImageSet:
    """Return Fashion-MNIST: 60,000 (or, for the test, 10,000) grey pictures of 28x28.

    References:
        Xiao, Rasul, Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning
        Algorithms", arXiv 1708.07747, 2017.
    """
    stem = "train" if part == "train" else "t10k"
    help_text = "apt-get install dataset-fashion-mnist, or name the folder with its four .gz files"
    images = read_idx(folder / f"{stem}-images-idx3-ubyte.gz", help_text=help_text)
    labels = read_idx(folder / f"{stem}-labels-idx1-ubyte.gz", help_text=help_text)
    if images.ndim != 3 or labels.ndim != 1:
        raise ConfigError(f"{folder}: expected images (N, H, W) and labels (N), got {images.ndim} dims")
    return ImageSet(
        name="fashion-mnist",
        images_NCHW=torch.from_numpy(images)[:, None],
        labels_N=torch.from_numpy(labels.astype(np.int64)),
        class_names=FASHION_MNIST_CLASSES,
    )


def read_idx(path: Path, *, help_text: str = "") -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return the array of bytes in an IDX file, plain or gzipped.

    The format: two zero bytes, 8 for unsigned bytes, the number of dims, each size as a big-endian
    32-bit number, then the elements in row-major order.

    Raises:
        ConfigError: If the file is missing, has another format, or is too short or too long.
    """
    data = _read(path, help_text=help_text)
    if path.suffix == ".gz":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise ConfigError(f"{path} is not a complete gzip file: {error}") from error
    if len(data) < 4 or data[:3] != b"\x00\x00\x08":
        raise ConfigError(f"{path} is not an IDX file of bytes: it begins with {data[:4].hex(' ')}")
    start = 4 + 4 * data[3]
    if len(data) < start:
        raise ConfigError(f"{path} ends within its sizes, after {len(data)} bytes")
    shape = np.frombuffer(data, dtype=">u4", count=data[3], offset=4).astype(np.int64)
    if len(data) - start != shape.prod():
        raise ConfigError(
            f"{path} has {len(data) - start} elements, its sizes {shape.tolist()} say {shape.prod()}"
        )
    return np.frombuffer(data, dtype=np.uint8, offset=start).reshape(shape).copy()


def cifar(part: Part, *, folder: Path, num_classes: Literal[10, 100]) -> ImageSet:
    """Return CIFAR-10 or CIFAR-100 (its fine classes) from the files of the binary version.

    A record is the label (CIFAR-100: the coarse one, then the fine one) and 3,072 bytes: 1,024 of red, of
    green, of blue, each in row-major order.

    References:
        Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
    """
    help_text = f"unpack the binary version of CIFAR-{num_classes} and name its folder"
    if num_classes == 10:
        files = [f"data_batch_{number}.bin" for number in range(1, 6)]
        files, names_file, num_label_bytes = (
            (["test_batch.bin"] if part == "test" else files),
            "batches.meta.txt",
            1,
        )
    else:
        files, names_file, num_label_bytes = [f"{part}.bin"], "fine_label_names.txt", 2
    num_bytes = num_label_bytes + 3 * 32 * 32
    records = []
    for file in files:
        data = _read(folder / file, help_text=help_text)
        if not data or len(data) % num_bytes:
            raise ConfigError(
                f"{folder / file}: {len(data)} bytes are not a multiple of the record size {num_bytes}"
            )
        records.append(np.frombuffer(data, dtype=np.uint8).reshape(-1, num_bytes))
    array = np.concatenate(records)
    names = _read(folder / names_file, help_text=help_text).decode().split()
    if len(names) != num_classes:
        raise ConfigError(f"{folder / names_file} names {len(names)} classes, not {num_classes}")
    return ImageSet(
        name=f"cifar-{num_classes}",
        images_NCHW=torch.from_numpy(array[:, num_label_bytes:].reshape(-1, 3, 32, 32).copy()),
        labels_N=torch.from_numpy(array[:, num_label_bytes - 1].astype(np.int64)),
        class_names=tuple(names),
    )


def image_folder(part: Part, *, folder: Path, image_size: int) -> ImageSet:
    """Return pictures from ``folder/train/CLASS/FILE`` (for the test ``folder/val`` or ``folder/test``).

    ImageNet and its subsets have this layout. If ``folder/classes.txt`` exists, only the folders named in it
    are read, one per line: ImageNet-100 is ImageNet with a list of 100 names. Each picture is scaled until
        its
    shorter side has ``image_size`` pixels, and its centre is kept. All pictures are held in memory:
    ``3 * image_size ** 2`` bytes each.

    Raises:
        ConfigError: If a folder is missing or empty, a file cannot be read, or Pillow is not installed.
    """
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ImportError as error:
        raise ConfigError(f"folders of pictures need Pillow ({error}): pip install pillow") from error
    if image_size < 1:
        raise ConfigError(f"image_size is {image_size}, must be at least 1")
    root = next(
        (
            folder / name
            for name in (("train",) if part == "train" else ("val", "test"))
            if (folder / name).is_dir()
        ),
        None,
    )
    if root is None:
        raise ConfigError(f"there is no folder {folder}/{'train' if part == 'train' else 'val'}")
    pictures, labels = [], []
    names = _class_folders(folder, root)
    for label, name in enumerate(names):
        paths = sorted(path for path in (root / name).rglob("*") if path.suffix.lower() in _IMAGE_ENDINGS)
        if not paths:
            raise ConfigError(f"{root / name} has no pictures ({', '.join(_IMAGE_ENDINGS)})")
        for path in paths:
            try:
                with Image.open(path) as picture:
                    square = ImageOps.fit(picture.convert("RGB"), (image_size, image_size))
            except (OSError, UnidentifiedImageError) as error:
                raise ConfigError(f"cannot read the picture {path}: {error}") from error
            pictures.append(np.asarray(square))
            labels.append(label)
    images_NHWC = torch.from_numpy(np.stack(pictures))
    return ImageSet(
        name="folder",
        images_NCHW=images_NHWC.permute(0, 3, 1, 2).contiguous(),
        labels_N=torch.tensor(labels),
        class_names=tuple(names),
    )


def _class_folders(folder: Path, root: Path) -> list[str]:
    listed = folder / "classes.txt"
    if listed.is_file():
        names = [words[0] for line in listed.read_text().splitlines() if (words := line.split())]
        missing = [name for name in names if not (root / name).is_dir()]
        if missing:
            raise ConfigError(f"{listed} names {missing[0]!r}, but there is no folder {root / missing[0]}")
    else:
        names = sorted(path.name for path in root.iterdir() if path.is_dir())
    if not names:
        raise ConfigError(f"{root} has no folder of a class")
    return names


def _read(path: Path, *, help_text: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {path} ({error.strerror or error}): {help_text}") from error


def _needed(folder: Path | None, name: str) -> Path:
    if folder is None:
        raise ConfigError(f"{name} needs the folder of its files")
    return folder


_READERS: Final[Mapping[str, Callable[[Part, Path | None, int], ImageSet]]] = {
    "digits": lambda part, _folder, _size: digits(part),
    "fashion-mnist": lambda part, folder, _size: fashion_mnist(part, folder=folder or FASHION_MNIST_FOLDER),
    "cifar-10": lambda part, folder, _size: cifar(part, folder=_needed(folder, "cifar-10"), num_classes=10),
    "cifar-100": lambda part, folder, _size: cifar(
        part, folder=_needed(folder, "cifar-100"), num_classes=100
    ),
    "folder": lambda part, folder, size: image_folder(
        part, folder=_needed(folder, "folder"), image_size=size
    ),
}
#: Names that `load` takes.
DATA_SETS: Final = tuple(_READERS)
