#!/usr/bin/env python3
"""Writes the ONNX cases of `Attention`, `LinearAttention` or `FlexAttention` of the installed `onnx` package (1.23 or
later) into one safetensors file.

    python3 tools/make_onnx_golden.py attention tests/golden/onnx_attention.safetensors
    python3 tools/make_onnx_golden.py linear_attention tests/golden/onnx_linear_attention.safetensors
    python3 tools/make_onnx_golden.py flexattention tests/golden/onnx_flex_attention.safetensors

Each case is a handful of arrays named "<case>/<role>", with the roles of OPERATORS; booleans become int32. The metadata
maps each case to its attributes as JSON; an attribute that is a graph (a score_mod) becomes its name and its constants. Older releases of onnx contradict the errata of opset 23 and 24 and are
refused.
"""
import json
import os
import struct
import sys
import warnings

import numpy as np

# By operator: its name and opsets, and what its inputs and outputs are called here, in their order.
OPERATORS = {
    "attention": ("Attention, opsets 23 to 25", ["query", "key", "value", "mask", "past_key", "past_value", "valid_keys"],
                  ["out", "present_key", "present_value", "map"]),
    "linear_attention": ("LinearAttention, opset 27", ["query", "key", "value", "state", "decay", "beta"],
                         ["out", "present_state"]),
    "flexattention": ("FlexAttention, ai.onnx.preview opset 1", ["query", "key", "value"], ["out"]),
}


def stored(array):
    """(dtype name, array) in the types that the file format knows."""
    name = str(array.dtype)
    if name == "bool":
        return "I32", array.astype(np.int32)
    if name == "bfloat16":
        return "BF16", array.view(np.uint16)
    return {"float32": "F32", "float64": "F64", "float16": "F16", "int64": "I64", "int32": "I32"}[name], array


def plain(value, to_array):
    """An attribute as JSON knows it."""
    if isinstance(value, bytes):
        return value.decode()
    if hasattr(value, "initializer"):
        constants = {c.name: to_array(c).tolist() for c in value.initializer}
        return {"name": value.name, **{k: str(v) if v == -np.inf else v for k, v in constants.items()}}
    return value


def main(operator, path):
    title, inputs_here, outputs_here = OPERATORS[operator]
    prefix = f"test_{operator}"
    warnings.simplefilter("ignore")
    import onnx
    from onnx.backend.test.loader import load_model_tests

    version = tuple(int(x) for x in onnx.__version__.split(".")[:2])
    if version < (1, 23):
        sys.exit(f"make_onnx_golden: onnx 1.23 or later, found {onnx.__version__}")
    tensors, metadata = [], {"source": f"onnx {onnx.__version__}, {title}"}
    for case in load_model_tests(kind="node"):
        if not case.name.startswith(prefix) or "expanded" in case.name:
            continue
        name = case.name[len(prefix):].lstrip("_") or "plain"
        node = case.model.graph.node[0]
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        attributes = {k: plain(v, onnx.numpy_helper.to_array) for k, v in attributes.items()}
        inputs, outputs = case.data_sets[0]
        for roles, names, arrays in ((inputs_here, node.input, inputs), (outputs_here, node.output, outputs)):
            given = iter(arrays)
            for role, used in zip(roles, names):
                if used:
                    array = np.asarray(next(given))
                    if role == "mask":
                        attributes["mask_type"] = str(array.dtype)
                    tensors.append((f"{name}/{role}", *stored(array)))
        metadata[name] = json.dumps(attributes, sort_keys=True)
    tensors.sort(key=lambda t: (-t[2].itemsize, t[0]))
    header, offset = {"__metadata__": metadata}, 0
    for name, dtype, array in tensors:
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [offset, offset + array.nbytes]}
        offset += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path + ".tmp", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, _, array in tensors:
            file.write(np.ascontiguousarray(array).tobytes())
    os.replace(path + ".tmp", path)
    print(f"{len(metadata) - 1} cases, {len(tensors)} arrays, {os.path.getsize(path)} bytes")


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in OPERATORS:
        sys.exit(f"usage: make_onnx_golden.py {'|'.join(OPERATORS)} FILE")
    main(sys.argv[1], sys.argv[2])
