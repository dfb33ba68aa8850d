"""ONNX Runtime's side of the benchmark: attention as one operator, forward only (it has no gradients).

Two operators do the same work. com.microsoft.MultiHeadAttention, whose heads lie beside each other in a row, is the
faster one at most shapes and is taken where it can do the row; where heads share keys or logits are capped, Attention
of the standard's opset 23. Protocol: see protocol.py.
"""
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

import protocol

WINDOW = 255  # keys before the query's own, as in the rows of attention_bench
CAP = 30.0
TYPES = {"float32": (TensorProto.FLOAT, np.float32), "float16": (TensorProto.FLOAT16, np.float16)}


def session(node, inputs: dict, out_shape, opset: int, threads: int, tensor_type):
    info = helper.make_tensor_value_info
    graph = helper.make_graph([node], "attention", [info(n, tensor_type, x.shape) for n, x in inputs.items()],
                              [info("out", tensor_type, out_shape)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset),
                                                    helper.make_opsetid("com.microsoft", 1)])
    model.ir_version = 10
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    run = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda: run.run(None, inputs)


def bias_of(row: dict, dtype):
    """What is added to all logits, [1 or H, Tq, Tk]; None where nothing is."""
    _, heads, _, queries, keys, _ = row["extents"]
    distance = np.arange(queries)[:, None] - np.arange(keys)[None, :]
    if row["variant"] == "dense_bias":
        return np.random.randn(1, heads, queries, keys).astype(dtype)
    if row["variant"] == "window":
        return np.where((distance >= 0) & (distance <= WINDOW), 0, -np.inf).astype(dtype)[None, None]
    if row["variant"] == "alibi":
        slopes = 2.0 ** (-8.0 * (np.arange(heads) + 1) / heads)
        bias = -slopes[:, None, None] * np.abs(distance)
        if row["causal"]:
            bias = np.where(distance >= 0, bias, -np.inf)
        return bias.astype(dtype)[None]
    return None


def standard_way(row: dict, threads: int):
    batch, heads, kv_heads, queries, keys, width = row["extents"]
    tensor_type, dtype = TYPES[row["dtype"]]
    make = lambda h, t: np.random.randn(batch, h, t, width).astype(dtype)
    inputs = {"q": make(heads, queries), "k": make(kv_heads, keys), "v": make(kv_heads, keys)}
    bias = bias_of(row, dtype)
    if bias is not None:
        inputs["bias"] = bias
    attributes = {"softcap": CAP} if row["variant"] == "soft_cap" else {}
    causal = int(row["causal"] and bias is None)
    node = helper.make_node("Attention", list(inputs), ["out"], is_causal=causal, **attributes)
    return session(node, inputs, (batch, heads, queries, width), 23, threads, tensor_type)


def older_way(row: dict, threads: int):
    batch, heads, _, queries, keys, width = row["extents"]
    tensor_type, dtype = TYPES[row["dtype"]]
    make = lambda t: np.random.randn(batch, t, heads * width).astype(dtype)
    inputs = {"q": make(queries), "k": make(keys), "v": make(keys)}
    names = list(inputs)
    bias = bias_of(row, dtype)
    if bias is not None:
        inputs["bias"] = bias
        names += ["", "", "bias"]
    node = helper.make_node("MultiHeadAttention", names, ["out"], domain="com.microsoft", num_heads=heads,
                            unidirectional=int(row["causal"] and bias is None))
    return session(node, inputs, (batch, queries, heads * width), 20, threads, tensor_type)


def ways_with(threads: int):
    def ways(row: dict) -> list:
        known = {"plain", "grouped", "dense_bias", "window", "alibi", "soft_cap"}
        if row["pass"] not in ("forward", "decode") or row["variant"] not in known or row["dtype"] not in TYPES:
            return []
        if len(row["extents"]) != 6:
            return []
        _, heads, kv_heads, _, _, _ = row["extents"]
        if heads == kv_heads and row["variant"] != "soft_cap":
            return [("ONNX Runtime", lambda: older_way(row, threads))]
        return [("ONNX Runtime", lambda: standard_way(row, threads))]

    return ways


if __name__ == "__main__":
    chosen = protocol.options()
    protocol.serve(ways_with(chosen.threads), chosen.threads,
                   {"name": "ONNX Runtime", "version": onnxruntime.__version__, "onnx": onnx.__version__})
