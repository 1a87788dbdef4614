"""Transformers of text, images and sound; merged into the zoo.

Each architecture of ``transformers`` comes at the size of a model that people run, and as ``-small`` with the
same operators, for tests. Text is a prompt that is read at once; `use_cache` is off unless the name says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgeflow.testing import models
from edgeflow.testing.zoo_parts import PEAKED, Example, from_transformers, random_image, random_text


def _images(config_class: str, model_class: str, pixels: int, /, **config: Any) -> Example:
    module = from_transformers(config_class, model_class, config, _randomise)
    return Example(module, (random_image(pixels),), {})


def _text(config_class: str, model_class: str, length: int, /, **config: Any) -> Example:
    """Token ids and a mask that hides some padding."""
    module = from_transformers(config_class, model_class, config, _randomise)
    return Example(module, (), random_text(vocab_size=module.config.vocab_size, length=length))


def _prompt(config_class: str, model_class: str, length: int, /, batch: int = 1, **config: Any) -> Example:
    """Return token ids alone; the model is causal."""
    module = from_transformers(config_class, model_class, {"use_cache": False, **config}, _randomise)
    return Example(module, (), {"input_ids": _ids(module.config.vocab_size, length, batch=batch)})


def _clip(pixels: int, length: int, /, **config: Any) -> Example:
    """Three captions, each ending at another place, and a picture."""
    module = from_transformers("CLIPConfig", "CLIPModel", config, _randomise)
    end = module.config.text_config.eos_token_id
    ids = _ids(end, length, batch=3)
    for row, stop in enumerate((length // 2, length - 1, length // 3)):
        ids[row, stop:] = end
    mask = (torch.arange(length) <= (ids == end).int().argmax(-1, keepdim=True)).long()
    texts = {"input_ids": ids, "attention_mask": mask}
    return Example(module, (), {**texts, "pixel_values": random_image(pixels)})


def _whisper_encoder(**config: Any) -> Example:
    """Return a spectrogram of two frames per position."""

    def only_encoder(module: nn.Module) -> None:
        _randomise(module)

    whole = from_transformers("WhisperConfig", "WhisperModel", config, only_encoder)
    frames = random_image(64, in_channels=whole.config.num_mel_bins).flatten(2)
    sound = F.interpolate(frames, size=2 * whole.config.max_source_positions, mode="linear")
    return Example(whole.get_encoder().eval(), (sound,), {})


def _encoder(*, embed_dim: int, num_heads: int, num_layers: int, length: int) -> Example:
    """`torch.nn.TransformerEncoder` on two sequences, one of them padded."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layer = nn.TransformerEncoderLayer(
            embed_dim, num_heads, 2 * embed_dim, activation="gelu", batch_first=True, norm_first=True
        )
        module = nn.TransformerEncoder(layer, num_layers, nn.LayerNorm(embed_dim), enable_nested_tensor=False)
        models.randomise(module)
        _randomise(module)
        x = torch.randn(2, length, embed_dim)
    padding = torch.arange(length) >= torch.tensor([[length], [length - length // 4]])
    return Example(module.eval(), (x,), {"src_key_padding_mask": padding})


def _ids(vocab_size: int, length: int, *, batch: int = 1) -> Tensor:
    return torch.randint(3, vocab_size, (batch, length), generator=torch.Generator().manual_seed(0))


def _randomise(module: nn.Module) -> None:
    """Replace scales of one and biases of zero by random ones; draws from the global generator.

    A bias that is added twice, or not at all, is seen only if it is not zero.
    """
    models.randomise_norms(module)
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if "bias" in name and not weight.any():
                weight.normal_(std=0.1)
            elif weight.ndim == 1 and (weight == 1).all():
                weight.uniform_(0.7, 1.1)


#: A width of 96 in six heads, two layers deep.
_SMALL: Final[dict[str, Any]] = {
    "hidden_size": 96,
    "intermediate_size": 192,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "initializer_range": 0.15,
}
_SMALL_IMAGE: Final[dict[str, Any]] = {"image_size": 32, "patch_size": 8}
#: Two query heads to a head of keys and values.
_SMALL_DECODER: Final[dict[str, Any]] = {
    **_SMALL,
    "num_key_value_heads": 3,
    "vocab_size": 200,
    "pad_token_id": 0,
}
_SMALL_CLIP: Final[dict[str, Any]] = {
    "text_config": {
        **_SMALL, "vocab_size": 200, "max_position_embeddings": 16, "eos_token_id": 199,
        "initializer_factor": 3.0,
    },
    "vision_config": {**_SMALL, **_SMALL_IMAGE, "initializer_factor": 3.0},
    "projection_dim": 48,
}  # fmt: skip
_SMALL_WHISPER: Final[dict[str, Any]] = {
    "d_model": 96, "encoder_layers": 2, "encoder_attention_heads": 6, "encoder_ffn_dim": 192,
    "num_mel_bins": 20, "max_source_positions": 50, "vocab_size": 200, "init_std": 0.15, "decoder_layers": 1,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1,
}  # fmt: skip
_SMALL_BART: Final[dict[str, Any]] = {
    "d_model": 96, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 6, "vocab_size": 200,
    "decoder_attention_heads": 6, "encoder_ffn_dim": 192, "decoder_ffn_dim": 192, "init_std": 0.15,
    "max_position_embeddings": 64, "use_cache": False,
}  # fmt: skip

#: Name -> what builds the model; see `edgeflow.testing.zoo`.
TEXT: Final[Mapping[str, Callable[[], Example]]] = MappingProxyType(
    {
        "hf-vit-base": partial(
            _images, "ViTConfig", "ViTForImageClassification", 224, num_labels=1000, **PEAKED
        ),
        "hf-vit-small": partial(
            _images, "ViTConfig", "ViTForImageClassification", 32, num_labels=10, **_SMALL, **_SMALL_IMAGE
        ),
        "hf-deit-base": partial(_images, "DeiTConfig", "DeiTModel", 224, **PEAKED),
        "hf-deit-small": partial(_images, "DeiTConfig", "DeiTModel", 32, **_SMALL, **_SMALL_IMAGE),
        "hf-swin-tiny": partial(
            _images, "SwinConfig", "SwinForImageClassification", 224, num_labels=1000, initializer_range=0.1
        ),
        "hf-swin-small": partial(
            _images, "SwinConfig", "SwinForImageClassification", 64, image_size=64, embed_dim=24,
            depths=[2, 2], num_heads=[2, 4], window_size=4, num_labels=10, initializer_range=0.25,
        ),
        "hf-dinov2-base": partial(_images, "Dinov2Config", "Dinov2Model", 224, image_size=518, **PEAKED),
        "hf-dinov2-small": partial(
            _images, "Dinov2Config", "Dinov2Model", 70, image_size=56, patch_size=14, hidden_size=96,
            num_hidden_layers=2, num_attention_heads=6, mlp_ratio=2, initializer_range=0.15,
        ),
        "hf-bert-base": partial(_text, "BertConfig", "BertModel", 128, **PEAKED),
        "hf-bert-small": partial(
            _text, "BertConfig", "BertModel", 32, vocab_size=200, max_position_embeddings=64, **_SMALL
        ),
        "hf-distilbert-base": partial(_text, "DistilBertConfig", "DistilBertModel", 128, **PEAKED),
        "hf-distilbert-small": partial(
            _text, "DistilBertConfig", "DistilBertModel", 32, vocab_size=200, dim=96, n_heads=6, n_layers=2,
            hidden_dim=192, initializer_range=0.15,
        ),
        "hf-modernbert-small": partial(
            _text, "ModernBertConfig", "ModernBertModel", 32, vocab_size=200, local_attention=8,
            global_attn_every_n_layers=2, pad_token_id=0, bos_token_id=1, eos_token_id=2, cls_token_id=1,
            sep_token_id=2, **_SMALL,
        ),
        "hf-deberta-small": partial(
            _text, "DebertaV2Config", "DebertaV2Model", 32, vocab_size=200, relative_attention=True,
            pos_att_type=["p2c", "c2p"], max_position_embeddings=64, **_SMALL,
        ),
        "hf-gpt2": partial(_prompt, "GPT2Config", "GPT2LMHeadModel", 128, **PEAKED),
        "hf-gpt2-small": partial(
            _prompt, "GPT2Config", "GPT2LMHeadModel", 24, n_embd=96, n_head=6, n_layer=2, vocab_size=200,
            n_positions=64, initializer_range=0.15, bos_token_id=1, eos_token_id=2,
        ),
        # SmolLM-135M: three query heads to one of keys and values.
        "hf-llama": partial(
            _prompt, "LlamaConfig", "LlamaForCausalLM", 128, hidden_size=576, intermediate_size=1536,
            num_hidden_layers=30, num_attention_heads=9, num_key_value_heads=3, vocab_size=49152,
            tie_word_embeddings=True, **PEAKED,
        ),
        "hf-llama-small": partial(_prompt, "LlamaConfig", "LlamaForCausalLM", 24, batch=2, **_SMALL_DECODER),
        "hf-llama-cache-small": partial(
            _prompt, "LlamaConfig", "LlamaForCausalLM", 24, **_SMALL_DECODER, use_cache=True,
            output_hidden_states=True,
        ),
        # Qwen2-0.5B: fourteen heads, two of keys and values, biases on queries, keys and values.
        "hf-qwen2": partial(
            _prompt, "Qwen2Config", "Qwen2ForCausalLM", 64, hidden_size=896, intermediate_size=4864,
            num_hidden_layers=24, num_attention_heads=14, num_key_value_heads=2, vocab_size=151936,
            tie_word_embeddings=True, **PEAKED,
        ),
        "hf-qwen2-small": partial(
            _prompt, "Qwen2Config", "Qwen2ForCausalLM", 24, tie_word_embeddings=True, **_SMALL_DECODER
        ),
        "hf-mistral-small": partial(
            _prompt, "MistralConfig", "MistralForCausalLM", 24, sliding_window=6, **_SMALL_DECODER
        ),
        "hf-phi3-small": partial(_prompt, "Phi3Config", "Phi3ForCausalLM", 24, **_SMALL_DECODER),
        "hf-falcon-small": partial(
            _prompt, "FalconConfig", "FalconForCausalLM", 24, hidden_size=96, num_attention_heads=6,
            num_hidden_layers=2, vocab_size=200, initializer_range=0.15, bos_token_id=1, eos_token_id=2,
        ),
        "hf-t5-encoder-base": partial(
            _text, "T5Config", "T5EncoderModel", 128, d_model=768, d_ff=3072, num_layers=12, num_heads=12,
        ),
        "hf-t5-encoder-small": partial(
            _text, "T5Config", "T5EncoderModel", 32, d_model=96, num_heads=6, d_kv=16, num_layers=2, d_ff=192,
            vocab_size=200,
        ),
        "hf-bart-small": partial(_text, "BartConfig", "BartModel", 24, **_SMALL_BART),
        "hf-clip-base": partial(_clip, 224, 32, text_config={"eos_token_id": 49407}),
        "hf-clip-small": partial(_clip, 32, 16, **_SMALL_CLIP),
        "hf-whisper-encoder-base": partial(
            _whisper_encoder, d_model=512, encoder_layers=6, encoder_attention_heads=8, encoder_ffn_dim=2048,
            decoder_layers=1, decoder_attention_heads=8, init_std=0.06,
        ),
        "hf-whisper-encoder-small": partial(_whisper_encoder, **_SMALL_WHISPER),
        "transformer-encoder": partial(_encoder, embed_dim=96, num_heads=6, num_layers=2, length=18),
    }
)  # fmt: skip
