#!/usr/bin/env python3
"""Writes tests/golden/positions.json: rows of tokens before and after the positions of other people's code.

Scaled rotary positions (linear, dynamic, yarn, llama3) are those of transformers' Llama, rotary positions of images those of
its Qwen2-VL, xPos that of rotary-embedding-torch, sines of images timm's, interpolated tables PyTorch's F.interpolate in
float64, with the gradient of the table. Needs torch, transformers, timm and rotary-embedding-torch.
"""
import json
from pathlib import Path

import torch
import torch.nn.functional as F
from rotary_embedding_torch import RotaryEmbedding
from timm.layers import build_sincos2d_pos_embed
from transformers import LlamaConfig, Qwen2VLConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb
from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VLVisionRotaryEmbedding, apply_rotary_pos_emb_vision

torch.manual_seed(20240917)


def rows(tokens, dim):
    return torch.round(3 * torch.rand(tokens, dim, dtype=torch.float64) - 1.5, decimals=3)


def numbers(x):
    """What float32 computed is not worth more digits than these."""
    return [float(f"{v:.9g}") if x.dtype == torch.float32 else v for v in x.detach().flatten().tolist()]


def case(position, options, x, out, side="query", keys=None, tolerance=1e-5, **more):
    return {"position": position, "options": options, "side": side, "num_keys": keys or len(x), "dim": x.shape[1],
            "rows": numbers(x), "out": numbers(out), "tolerance": tolerance, **more}


def scaled_rotary():
    dim, tokens, trained = 12, 40, 24
    for kind, rope, options in [
            ("linear", {"factor": 3.0}, {}),
            ("dynamic", {"factor": 2.0}, {"original_length": trained}),
            ("yarn", {"factor": 4.0, "original_max_position_embeddings": trained}, {"original_length": trained}),
            ("yarn", {"factor": 8.0, "original_max_position_embeddings": 300, "beta_fast": 16.0, "beta_slow": 2.0,
                      "attention_factor": 1.5},
             {"original_length": 300, "beta_fast": 16.0, "beta_slow": 2.0, "attention_factor": 1.5}),
            ("llama3", {"factor": 8.0, "original_max_position_embeddings": 500, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
             {"original_length": 500})]:
        config = LlamaConfig(hidden_size=2 * dim, num_attention_heads=2, head_dim=dim, max_position_embeddings=trained,
                             rope_parameters={"rope_type": kind, "rope_theta": 1000.0, **rope})
        x = rows(tokens, dim)
        rotary = LlamaRotaryEmbedding(config)
        cos, sin = rotary(x.float()[None], torch.arange(tokens)[None])
        out, _ = apply_rotary_pos_emb(x.float()[None, None], x.float()[None, None], cos, sin)
        yield case("rotary", {"base": 1000.0, "scaling": kind, "factor": rope["factor"], **options}, x, out[0, 0])


def image_rotary():
    dim, height, width = 16, 3, 5
    config = Qwen2VLConfig(vision_config={"embed_dim": 2 * dim, "num_heads": 2}).vision_config
    x = rows(height * width, dim)
    grid = torch.stack([torch.arange(height).repeat_interleave(width), torch.arange(width).repeat(height)])
    rotary = Qwen2VLVisionRotaryEmbedding(config)
    cos, sin = rotary(x.float(), grid[None])
    out, _ = apply_rotary_pos_emb_vision(x.float()[:, None], x.float()[:, None], cos[0], sin[0])
    yield case("rotary_2d", {"base": config.rope_parameters["rope_theta"], "grid_width": width}, x, out[:, 0])


def xpos():
    dim, tokens = 8, 30
    rotary = RotaryEmbedding(dim, use_xpos=True, xpos_scale_base=64, theta=500)
    q, k = rows(tokens, dim), rows(tokens, dim)
    new_q, new_k = rotary.rotate_queries_and_keys(q.float()[None, None], k.float()[None, None])
    options = {"base": 500.0, "scale_base": 64.0, "middle": tokens // 2, "interleaved": True}
    yield case("xpos", options, q, new_q[0, 0])
    yield case("xpos", options, k, new_k[0, 0], side="key")


def image_sines():
    dim, height, width = 12, 4, 3
    sin_row, sin_column, cos_row, cos_column = build_sincos2d_pos_embed([height, width], dim, temperature=100.0).chunk(4, -1)
    x = rows(height * width, dim)
    table = torch.cat([sin_column, cos_column, sin_row, cos_row], -1)  # the order of MAE's own code
    yield case("sinusoidal_2d", {"base": 100.0, "grid_width": width}, x, x + table.double())


def interpolated():
    dim = 3
    for mode, (th, tw), (gh, gw), prefix in [("bicubic", (3, 4), (5, 6), 1), ("bicubic", (5, 5), (3, 2), 0),
                                             ("bilinear", (2, 3), (4, 7), 2), ("bilinear", (1, 6), (1, 10), 0)]:
        table = rows(prefix + th * tw, dim).requires_grad_()
        grid = table[prefix:].T.reshape(1, dim, th, tw)
        grid = F.interpolate(grid, size=(gh, gw), mode=mode, align_corners=False)[0].reshape(dim, -1).T
        x = rows(prefix + gh * gw, dim)
        out = x + torch.cat([table[:prefix], grid])
        dout = rows(len(x), dim)
        dtable, = torch.autograd.grad(out, table, dout)
        yield case("learned_grid", {"table_height": th, "table_width": tw, "grid_height": gh, "grid_width": gw,
                                    "prefix_tokens": prefix, "interpolation": mode}, x, out, tolerance=1e-12,
                   table=numbers(table), dout=numbers(dout), dtable=numbers(dtable))


cases = [*scaled_rotary(), *image_rotary(), *xpos(), *image_sines(), *interpolated()]
path = Path(__file__).resolve().parent.parent / "tests/golden/positions.json"
path.write_text("[" + ",\n".join(json.dumps(c) for c in cases) + "]\n")
print(f"{len(cases)} cases, {path.stat().st_size / 1024:.0f} KiB")
