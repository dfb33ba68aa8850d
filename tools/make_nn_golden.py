"""Writes tests/golden/nn_attention.json: what other packages' attention modules give, for the modules of nn.

    python tools/make_nn_golden.py

Needs torch and transformers. DifferentialAttention is held against DiffLlama, LatentAttention against DeepSeek-V2; their
weights are put in this project's order (differential_attention.hpp, latent_attention.hpp).
"""

import json
import pathlib

import torch
import transformers
from transformers.models.deepseek_v2 import modeling_deepseek_v2 as deepseek
from transformers.models.diffllama import modeling_diffllama as diffllama

BATCH, TOKENS, MODEL_DIM = 2, 6, 16


def array(tensor):
    return {"shape": list(tensor.shape), "values": [float(f"{v:.17g}") for v in tensor.detach().double().flatten().tolist()]}


def causal():
    hidden = torch.ones(TOKENS, TOKENS, dtype=torch.bool).triu(1)
    return torch.zeros(TOKENS, TOKENS, dtype=torch.float64).masked_fill(hidden, float("-inf"))[None, None]


def inputs():
    return torch.randn(BATCH, TOKENS, MODEL_DIM, dtype=torch.float64), torch.arange(TOKENS)[None].expand(BATCH, -1)


def differential():
    """Two heads of two maps each, one key head for both; DiffLlama counts the maps as heads."""
    config = diffllama.DiffLlamaConfig(
        hidden_size=MODEL_DIM, num_attention_heads=4, num_key_value_heads=2, head_dim=4, rms_norm_eps=1e-5,
        attention_bias=True, attn_implementation="eager", lambda_std_dev=0.3)
    layer = diffllama.DiffLlamaAttention(config, layer_idx=2).double()
    x, places = inputs()
    turn = diffllama.DiffLlamaRotaryEmbedding(config)(x, places)
    with torch.no_grad():
        for p in layer.parameters():
            p.normal_(0, 0.3)
    out = layer(x, turn, causal())[0]
    join = lambda kind: torch.cat([getattr(layer.q_proj, kind), getattr(layer.k_proj, kind), getattr(layer.v_proj, kind)])
    return {
        "lambda_init": float(layer.lambda_init), "x": array(x), "out": array(out),
        "weight_in": array(join("weight")), "bias_in": array(join("bias")),
        "lambda_query": array(torch.stack([layer.lambda_q1, layer.lambda_q2])),
        "lambda_key": array(torch.stack([layer.lambda_k1, layer.lambda_k2])),
        "weight_out": array(layer.o_proj.weight), "bias_out": array(layer.o_proj.bias)}


def latent(query_rank):
    heads, plain, turned, value, rank = 4, 3, 2, 5, 6
    config = deepseek.DeepseekV2Config(
        hidden_size=MODEL_DIM, num_attention_heads=heads, num_key_value_heads=heads, qk_nope_head_dim=plain,
        qk_rope_head_dim=turned, v_head_dim=value, kv_lora_rank=rank, q_lora_rank=query_rank, head_dim=turned,
        attn_implementation="eager")
    layer = deepseek.DeepseekV2Attention(config, layer_idx=0).double()
    x, places = inputs()
    turn = deepseek.DeepseekV2RotaryEmbedding(config)(x, places)
    with torch.no_grad():
        for p in layer.parameters():
            p.normal_(0, 0.5)
    out = layer(x, causal(), None, turn)[0]

    def turned_first(weight):  # of each head: plain rows, then turned ones -> the other way round
        rows = weight.view(heads, plain + turned, -1)
        return torch.cat([rows[:, plain:], rows[:, :plain]], 1).flatten(0, 1)

    weights = {"latent.weight": layer.kv_a_proj_with_mqa.weight, "latent_norm.weight": layer.kv_a_layernorm.weight,
               "expand.weight": layer.kv_b_proj.weight, "out.weight": layer.o_proj.weight}
    if query_rank is None:
        weights["query.weight"] = turned_first(layer.q_proj.weight)
    else:
        weights |= {"query_down.weight": layer.q_a_proj.weight, "query_norm.weight": layer.q_a_layernorm.weight,
                    "query_up.weight": turned_first(layer.q_b_proj.weight)}
    return {"query_latent_dim": query_rank or 0, "x": array(x), "out": array(out), "epsilon": float(layer.kv_a_layernorm.variance_epsilon),
            "weights": {name: array(w) for name, w in weights.items()}}


def main():
    torch.manual_seed(7)
    cases = {"made_by": f"torch {torch.__version__}, transformers {transformers.__version__}",
             "differential": differential(), "latent": [latent(None), latent(5)]}
    path = pathlib.Path(__file__).resolve().parent.parent / "tests/golden/nn_attention.json"
    path.write_text(json.dumps(cases, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
