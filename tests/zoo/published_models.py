"""Small configurations of networks that people use, built from `transformers` with random weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["PUBLISHED", "Specimen"]


@dataclass(frozen=True)
class Specimen:
    """A network with inputs on which it is captured, and the tensor of its output that the loss takes."""

    model: nn.Module
    inputs: dict[str, Any]
    output: str = "last_hidden_state"  # "": the output itself
    loss: Callable[[Any], Tensor] = field(default=lambda y: (y * _weights(y)).mean())
    name: str = ""


def _weights(y: Tensor) -> Tensor:
    """Fixed numbers, all different, so that no two entries of the output count alike."""
    return torch.cos(torch.arange(y.numel(), dtype=y.dtype, device=y.device)).reshape(y.shape)


def _tokens(vocabulary: int = 40, length: int = 6) -> Tensor:
    return torch.randint(3, vocabulary, (2, length))


def _image(size: int = 32) -> dict[str, Tensor]:
    return {"pixel_values": torch.randn(1, 3, size, size, dtype=torch.float64)}


def _text(name: str, model: str = "", **settings: Any) -> Callable[[], Specimen]:
    """A model over tokens; ``settings`` are those of the configuration class."""

    def build() -> Specimen:
        import transformers

        config = getattr(transformers, f"{name}Config")(**settings)
        config.use_cache = False
        made = getattr(transformers, model or f"{name}Model")(config)
        return Specimen(made, {"input_ids": _tokens(config.vocab_size), "attention_mask": _masked()})

    return build


def _masked() -> Tensor:
    """A batch whose second sequence is shorter."""
    return torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]])


def _vision(
    name: str, model: str = "", output: str = "last_hidden_state", size: int = 32, **settings: Any
) -> Callable[[], Specimen]:
    def build() -> Specimen:
        import transformers

        made = getattr(transformers, model or f"{name}Model")(getattr(transformers, f"{name}Config")(**settings))
        return Specimen(made, _image(size), output)

    return build


_SMALL: dict[str, Any] = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
          "intermediate_size": 24, "max_position_embeddings": 16}  # fmt: skip
_DECODER = {**_SMALL, "num_key_value_heads": 1, "pad_token_id": 0}
_VIT: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24,
        "image_size": 32, "patch_size": 16}  # fmt: skip


def _t5() -> Specimen:
    from transformers import T5Config, T5Model

    config = T5Config(
        vocab_size=40, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2, use_cache=False, dropout_rate=0.0
    )
    return Specimen(
        T5Model(config), {"input_ids": _tokens(), "decoder_input_ids": _tokens(length=4), "use_cache": False}
    )


def _bart() -> Specimen:
    from transformers import BartConfig, BartModel

    config = BartConfig(vocab_size=40, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=24, decoder_ffn_dim=24, max_position_embeddings=16, use_cache=False)  # fmt: skip
    return Specimen(
        BartModel(config), {"input_ids": _tokens(), "decoder_input_ids": _tokens(length=4), "use_cache": False}
    )


def _whisper() -> Specimen:
    from transformers import WhisperConfig, WhisperModel

    config = WhisperConfig(vocab_size=40, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=24, decoder_ffn_dim=24, num_mel_bins=8, max_source_positions=10,
        max_target_positions=12, pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1)  # fmt: skip
    sound = torch.randn(1, 8, 20, dtype=torch.float64)
    return Specimen(
        WhisperModel(config), {"input_features": sound, "decoder_input_ids": _tokens(length=4)[:1], "use_cache": False}
    )


def _wav2vec2() -> Specimen:
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    config = Wav2Vec2Config(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24, conv_dim=(8, 8),
        conv_stride=(5, 2), conv_kernel=(10, 3), num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2,
        num_feat_extract_layers=2, mask_time_prob=0.0, apply_spec_augment=False)  # fmt: skip
    return Specimen(Wav2Vec2Model(config), {"input_values": torch.randn(1, 200, dtype=torch.float64)})


def _clip() -> Specimen:
    from transformers import CLIPConfig, CLIPModel

    text = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24,
            "max_position_embeddings": 16, "eos_token_id": 2, "bos_token_id": 1, "pad_token_id": 0}  # fmt: skip
    vision = {**_VIT, "num_hidden_layers": 1}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)
    return Specimen(
        CLIPModel(config), {"input_ids": _tokens(), "attention_mask": _masked(), **_image()}, "logits_per_image"
    )


def _detr() -> Specimen:
    from transformers import DetrConfig, DetrForObjectDetection, ResNetConfig

    back = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1], layer_type="basic", out_features=["stage2"]
    )
    config = DetrConfig(use_timm_backbone=False, use_pretrained_backbone=False,
        backbone=None, backbone_config=back, d_model=16, encoder_layers=1,
        decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=24, decoder_ffn_dim=24,
        num_queries=3, num_labels=4, dropout=0.0)  # fmt: skip
    return Specimen(DetrForObjectDetection(config), _image(), "logits")


PUBLISHED: dict[str, Callable[[], Specimen]] = {
    "ResNet": _vision("ResNet", embedding_size=8, hidden_sizes=[8, 12], depths=[2, 1], layer_type="bottleneck"),
    "ConvNeXt": _vision("ConvNext", hidden_sizes=[8, 12], depths=[1, 2], num_stages=2),
    "ViT": _vision("ViT", **_VIT),
    "DeiT": _vision("DeiT", **_VIT),
    "BEiT": _vision("Beit", **_VIT, use_relative_position_bias=True),
    "Swin": _vision("Swin", image_size=32, patch_size=4, embed_dim=8, depths=[2, 1], num_heads=[2, 2], window_size=4),
    "SegFormer": _vision("Segformer", num_encoder_blocks=2, depths=[1, 1], sr_ratios=[2, 1], hidden_sizes=[8, 12],
        patch_sizes=[7, 3], strides=[4, 2], num_attention_heads=[1, 2], mlp_ratios=[2, 2]),
    "SegFormer head": _vision("Segformer", "SegformerForSemanticSegmentation", "logits", num_encoder_blocks=4, depths=[1] * 4,
        sr_ratios=[2, 1, 1, 1], hidden_sizes=[4] * 4, num_attention_heads=[1] * 4, mlp_ratios=[2] * 4, decoder_hidden_size=8, num_labels=3),
    "MobileNetV2": _vision("MobileNetV2", depth_multiplier=0.25, min_depth=4, depth_divisible_by=4, output_stride=32),
    "MobileViT": _vision("MobileViT", hidden_sizes=[8, 8, 8], neck_hidden_sizes=[4, 4, 8, 8, 8, 8, 8], num_attention_heads=2,
        image_size=32),
    "EfficientNet": _vision("EfficientNet", width_coefficient=0.1, depth_coefficient=0.1, depth_divisor=4,
        hidden_dim=128, image_size=32, in_channels=[8, 4, 4],
        out_channels=[4, 4, 8], kernel_sizes=[3, 3, 5], strides=[1, 2, 2], num_block_repeats=[1, 1, 1],
        expand_ratios=[1, 2, 2]),
    "RegNet": _vision("RegNet", embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], groups_width=4),
    "DINOv2": _vision("Dinov2", hidden_size=16, num_hidden_layers=1, num_attention_heads=2, mlp_ratio=2, image_size=32, patch_size=16),
    "PoolFormer": _vision("PoolFormer", hidden_sizes=[8, 8], depths=[1, 1], num_encoder_blocks=2, patch_sizes=[7, 3],
        strides=[4, 2], padding=[2, 1], mlp_ratio=2.0),
    "BERT": _text("Bert", **_SMALL),
    "DistilBERT": _text("DistilBert", vocab_size=40, dim=16, n_layers=2, n_heads=2, hidden_dim=24, max_position_embeddings=16),
    "RoBERTa": _text("Roberta", **_SMALL),
    "ALBERT": _text("Albert", **_SMALL, embedding_size=8),
    "ELECTRA": _text("Electra", **_SMALL, embedding_size=8),
    "DeBERTa": _text("Deberta", **_SMALL, relative_attention=True, pos_att_type=["c2p", "p2c"]),
    "DeBERTa-v2": _text("DebertaV2", **_SMALL, relative_attention=True, pos_att_type=["c2p", "p2c"], position_buckets=4),
    "MPNet": _text("MPNet", **_SMALL),
    "XLNet": _text("XLNet", vocab_size=40, d_model=16, n_layer=1, n_head=2, d_inner=24),
    "FNet": _text("FNet", vocab_size=40, hidden_size=16, num_hidden_layers=1, intermediate_size=24, max_position_embeddings=16),
    "GPT-2": _text("GPT2", vocab_size=40, n_positions=16, n_embd=16, n_layer=2, n_head=2),
    "GPT-NeoX": _text("GPTNeoX", **_SMALL),
    "OPT": _text("OPT", vocab_size=40, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, ffn_dim=24, max_position_embeddings=16,
        word_embed_proj_dim=16),
    "BLOOM": _text("Bloom", vocab_size=40, hidden_size=16, n_layer=1, n_head=2),
    "Llama": _text("Llama", **_DECODER),
    "Mistral": _text("Mistral", **_DECODER, sliding_window=3),
    "Gemma": _text("Gemma", **_DECODER, head_dim=8),
    "Gemma 2": _text("Gemma2", **_DECODER, head_dim=8, sliding_window=3),
    "Qwen2": _text("Qwen2", **_DECODER),
    "Phi": _text("Phi", **_DECODER),
    "Falcon": _text("Falcon", vocab_size=40, hidden_size=16, num_hidden_layers=1, num_attention_heads=2),
    "T5": _t5,
    "BART": _bart,
    "Whisper": _whisper,
    "Wav2Vec2": _wav2vec2,
    "CLIP": _clip,
    "DETR": _detr,
    "Mamba": _text("Mamba", vocab_size=40, hidden_size=8, state_size=4, num_hidden_layers=1, expand=2, time_step_rank=2),
    # with rescale_every its first run outside training divides its own weights in place, which is refused (test_networks.py)
    "RWKV": _text("Rwkv", vocab_size=40, hidden_size=16, num_hidden_layers=2, attention_hidden_size=16, context_length=16, rescale_every=0),
}  # fmt: skip
