#!/usr/bin/env python3
"""Writes tests/golden/scores.json: attention with the scores of other people's code, forward and all gradients, float64.

DeBERTa, XLNet's form of Transformer-XL and Shaw's relative keys come from the modules of `transformers`; cosine, Gaussian,
bilinear and normalised dots from functions of PyTorch. Every case is softmax(scores) . value, and its gradients are
PyTorch's for a given dout. Needs torch and transformers.
"""
import json
from pathlib import Path

import torch
import torch.nn.functional as F
from transformers import DebertaV2Config, Wav2Vec2BertConfig, XLNetConfig
from transformers.models.deberta_v2.modeling_deberta_v2 import DisentangledSelfAttention
from transformers.models.wav2vec2_bert.modeling_wav2vec2_bert import Wav2Vec2BertSelfAttention
from transformers.models.xlnet.modeling_xlnet import XLNetModel

HEADS, DIM, VALUE_DIM = 2, 4, 4
torch.set_default_dtype(torch.float64)
torch.manual_seed(20240917)


def numbers(*shape, low=-1.5, high=1.5):
    """Uniform numbers of three decimals."""
    return torch.round(low + (high - low) * torch.rand(shape), decimals=3).requires_grad_()


def inputs(batch, queries, keys, key_dim=DIM, query_dim=DIM):
    return [numbers(batch, HEADS, queries, query_dim), numbers(batch, HEADS, keys, key_dim), numbers(batch, HEADS, keys, VALUE_DIM)]


def case(score, options, arrays, parameters, out, offset=0):
    """arrays: query, key, value as [B, H, T, D]; out [B, H, Tq, Dv]."""
    dout = numbers(*out.shape).detach()
    everything = arrays + parameters
    gradients = torch.autograd.grad(out, everything, dout)
    plain = lambda x: {"shape": list(x.shape), "numbers": x.detach().flatten().tolist()}
    return {"score": score, "options": options, "offset": offset, "arrays": [plain(x) for x in everything], "dout": plain(dout),
            "out": plain(out), "gradients": [plain(g) for g in gradients]}


def from_scores(score, options, arrays, parameters, scores):
    return case(score, options, arrays, parameters, torch.softmax(scores, -1) @ arrays[2])


def functions():
    """Scores that are a function of PyTorch."""
    q, k, v = a = inputs(2, 5, 7)
    temperature = numbers(HEADS, low=0.3, high=0.9)
    yield from_scores("cosine", {}, a, [temperature],
                      F.cosine_similarity(q[:, :, :, None], k[:, :, None], dim=-1) / temperature[:, None, None])
    q, k, v = a = inputs(2, 5, 7)
    bandwidth = numbers(HEADS, low=0.7, high=2)
    yield from_scores("gaussian", {}, a, [bandwidth],
                      -torch.cdist(q, k, compute_mode="donot_use_mm_for_euclid_dist")**2 / (2 * bandwidth[:, None, None]**2))
    q, k, v = a = inputs(1, 3, 5, key_dim=6)
    weight = numbers(HEADS, DIM, 6)
    scores = torch.stack([F.bilinear(q[:, h, :, None].expand(-1, -1, 5, -1).contiguous(),
                                     k[:, h, None].expand(-1, 3, -1, -1).contiguous(), weight[h:h + 1])[..., 0]
                          for h in range(HEADS)], 1)
    yield from_scores("bilinear", {"key_dim": 6}, a, [weight], scores)
    for norm in ("rms", "l2"):
        q, k, v = a = inputs(1, 4, 6)
        gains = [numbers(HEADS, DIM), numbers(HEADS, DIM)]
        normal = [F.rms_norm(x, (DIM,), eps=1e-3) if norm == "rms" else F.normalize(x, dim=-1, eps=0) for x in (q, k)]
        scores = (normal[0] * gains[0][:, None]) @ (normal[1] * gains[1][:, None]).mT
        yield from_scores("qk_norm", {"norm": norm, "epsilon": 1e-3 if norm == "rms" else 1e-30, "scale": 1.25}, a, gains,
                          1.25 * scores)


def heads_of(x):
    """[B, T, H D] -> [B, H, T, D]."""
    return x.unflatten(-1, (HEADS, -1)).transpose(1, 2)


class Rows(torch.nn.Module):
    """An embedding that is this table."""

    def __init__(self, table):
        super().__init__()
        self.table = table

    def forward(self, index):
        return self.table[index]


class Given(torch.nn.Module):
    """Stands in for a projection: whatever comes in, these numbers come out."""

    def __init__(self, by_rows):
        super().__init__()
        self.by_rows = by_rows

    def forward(self, x):
        return self.by_rows[x.shape[-2]]


def flat(x):
    return x.transpose(-3, -2).flatten(-2)


def deberta():
    tokens, reach = 7, 3  # the projections tell tokens from table rows by their number
    dim = 3               # the module takes sqrt(3 dim) in float32: here it is exact
    q, k, v = a = inputs(2, tokens, tokens, dim, dim)
    key_table, query_table = numbers(HEADS, 2 * reach, dim), numbers(HEADS, 2 * reach, dim)
    module = DisentangledSelfAttention(DebertaV2Config(
        hidden_size=HEADS * dim, num_attention_heads=HEADS, relative_attention=True, max_relative_positions=reach,
        position_buckets=-1, pos_att_type=["c2p", "p2c"], share_att_key=True)).eval()
    module.query_proj = Given({tokens: flat(q), 2 * reach: flat(query_table)[None]})
    module.key_proj = Given({tokens: flat(k), 2 * reach: flat(key_table)[None]})
    module.value_proj = Given({tokens: flat(v)})
    out, _ = module(torch.zeros(2, tokens, HEADS * dim), torch.ones(2, 1, tokens, tokens),
                    rel_embeddings=torch.zeros(2 * reach, HEADS * dim))
    yield case("deberta", {"max_distance": reach, "as_released": True}, a, [key_table, query_table], heads_of(out))


def shaw():
    tokens, reach = 7, 2
    q, k, v = a = inputs(2, tokens, tokens)
    table = numbers(2 * reach + 1, DIM)
    module = Wav2Vec2BertSelfAttention(Wav2Vec2BertConfig(
        hidden_size=HEADS * DIM, num_attention_heads=HEADS, position_embeddings_type="relative_key",
        left_max_position_embeddings=reach, right_max_position_embeddings=reach, attn_implementation="eager")).eval()
    module.config._attn_implementation = "eager"
    module.linear_q, module.linear_k, module.linear_v = (Given({tokens: flat(x)}) for x in (q, k, v))
    module.linear_out = torch.nn.Identity()
    module.distance_embedding = Rows(table)
    out = module(torch.zeros(2, tokens, HEADS * DIM))[0]
    yield case("shaw", {"max_distance": reach}, a, [table], heads_of(out))


def transformer_xl():
    queries, past, model_dim = 5, 3, 6
    keys = queries + past
    q, k, v = a = inputs(2, queries, keys)
    u, w_v, weight = numbers(HEADS, DIM), numbers(HEADS, DIM), numbers(HEADS, DIM, model_dim)
    model = XLNetModel(XLNetConfig(d_model=model_dim, n_head=HEADS, d_inner=4, n_layer=1, attn_type="bi",
                                   bi_data=False, clamp_len=-1)).eval()
    module = model.layer[0].rel_attn
    module.scale = DIM**-0.5
    del module.r_w_bias, module.r_r_bias
    module.r_w_bias, module.r_r_bias = u, w_v
    # Of the distances keys .. 1 - queries, [distances, B, model_dim]; the model's own frequencies are float32.
    frequency = 10000**(-torch.arange(0, model_dim, 2.0) / model_dim)
    rows = XLNetModel.positional_embedding(torch.arange(keys, -queries, -1.0), frequency, 2)
    time_first = lambda x: x.permute(2, 0, 1, 3)  # [B, H, T, D] -> [T, B, H, D]
    out = module.rel_attn_core(time_first(q), time_first(k), time_first(v), torch.einsum("ibs,nds->ibnd", rows, weight))
    yield case("transformer_xl", {"sinusoid_dim": model_dim}, a, [u, w_v, weight], out.permute(1, 2, 0, 3), offset=past)


if __name__ == "__main__":
    cases = [c for make in (functions, deberta, shaw, transformer_xl) for c in make()]
    path = Path(__file__).resolve().parent.parent / "tests" / "golden" / "scores.json"
    text = "[\n" + ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases) + "\n]\n"
    path.write_text(text)
    print(f"{path}: {len(cases)} cases, {len(text)} bytes")
