"""Trained models that are ONNX files, as people have them: read, split, and asked about real pictures.

PP-OCRv4 (the Chinese and English mobile models of PaddleOCR, Apache-2.0): find text in a picture, tell
whether it stands upside down, read it. The sizes of their inputs are open.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import edgeflow as ef
from tests.real.conftest import Picture, package_file, split

pytestmark = pytest.mark.slow

onnxruntime = pytest.importorskip("onnxruntime", reason="the onnxruntime package is not installed")
pytest.importorskip("onnx", reason="the onnx package is not installed")

Array = npt.NDArray[Any]

#: Model, strategy, devices: Megatron's pairs of matrix products are in the recogniser alone.
_READ = [("coedge", 3), ("megatron", 3), ("auto", 3)]
_LOOK = [("coedge", 3), ("megatron", 1), ("auto", 3)]
_LINES = ("edgeflow 2026", "Unequal devices", "Same answer?", "rows, heads", "3.14159265")


def _model(name: str) -> Path:
    return package_file("rapidocr_onnxruntime", f"models/{name}")


def _session(path: Path) -> Any:
    """ONNX Runtime as one device would use it."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _line(text: str, width: int, *, is_turned: bool = False) -> Array:
    """Return a picture (1, 3, 48, width) of a line of text, dark on light, of -1 to 1."""
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("L", (width, 48), 235)
    ImageDraw.Draw(image).text((10, 8), text, fill=20, font=ImageFont.load_default(size=30))
    if is_turned:
        image = image.rotate(180)
    pixels = np.asarray(image, dtype=np.float32) / 127.5 - 1
    return np.broadcast_to(pixels, (1, 3, 48, width)).copy()


def _text(scores: Array, session: Any) -> str:
    """Return what a recogniser read: its best class at each place, repeats and blanks left out."""
    characters = ["", *session.get_modelmeta().custom_metadata_map["character"].splitlines(), " "]
    best = scores[0].argmax(axis=-1)
    kept = [int(k) for k, before in zip(best, [-1, *best[:-1]], strict=True) if k != before and k != 0]
    return "".join(characters[index] for index in kept)


@pytest.mark.parametrize(("strategy", "num_devices"), _READ)
def test_three_devices_read_the_same_text(strategy: str, num_devices: int) -> None:
    pytest.importorskip("PIL", reason="the pillow package is not installed")
    path = _model("ch_PP-OCRv4_rec_infer.onnx")
    session = _session(path)
    plan = split(ef.capture_onnx(path, input_shapes={"x": (1, 3, 48, 320)}), strategy, num_devices)

    for line in _LINES:
        x = _line(line, 320)
        (alone,) = session.run(None, {"x": x})
        together = np.asarray(ef.execute(plan, (x,)))
        assert np.abs(together - alone).max() < 1e-4
        assert _text(together, session) == _text(alone, session)
        assert _text(together, session).strip() == line


@pytest.mark.parametrize(("strategy", "num_devices"), _LOOK)
def test_three_devices_see_what_is_upside_down(strategy: str, num_devices: int) -> None:
    pytest.importorskip("PIL", reason="the pillow package is not installed")
    path = _model("ch_ppocr_mobile_v2.0_cls_infer.onnx")
    session = _session(path)
    plan = split(ef.capture_onnx(path, input_shapes={"x": (1, 3, 48, 192)}), strategy, num_devices)

    for line in _LINES[:3]:
        for is_turned in (False, True):
            x = _line(line, 192, is_turned=is_turned)
            (alone,) = session.run(None, {"x": x})
            together = np.asarray(ef.execute(plan, (x,)))
            assert np.abs(together - alone).max() < 1e-4
            assert together.argmax() == alone.argmax() == int(is_turned), line


@pytest.mark.parametrize(("strategy", "num_devices"), _LOOK)
def test_three_devices_find_text_in_the_same_places(
    strategy: str, num_devices: int, pictures: list[Picture]
) -> None:
    """On photographs: some have writing on them, most do not. The answer is where a map exceeds 0.3."""
    path = _model("ch_PP-OCRv4_det_infer.onnx")
    session = _session(path)
    plan = split(ef.capture_onnx(path, input_shapes={"x": (1, 3, 224, 320)}), strategy, num_devices)

    for picture in pictures[::2]:
        x = picture.pixels(320).numpy()[:, :, 48:272] * 2 - 1
        (alone,) = session.run(None, {"x": x})
        together = np.asarray(ef.execute(plan, (x,)))
        assert np.abs(together - alone).max() < 1e-4
        np.testing.assert_array_equal(together > 0.3, alone > 0.3)
