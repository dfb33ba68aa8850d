#!/usr/bin/env python3
"""tools/check_layers.py finds each kind of mistake, and nothing in sources that have none."""
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
import check_layers  # noqa: E402

CASES = [  # file, its line, what the finding says (None: no finding)
    ("include/attune/nn/linear.hpp", '#include "attune/autograd/tensor.hpp"', None),
    ("include/attune/autograd/tensor.hpp", '#include "attune/nn/linear.hpp"', "layer autograd sees only"),
    ("include/attune/optim/adamw.hpp", '#include "attune/nn/linear.hpp"', "layer optim sees only"),
    ("src/base/error.cpp", '#include "attune/io/npy.hpp"', "layer base sees only itself"),
    ("src/attention/forward.cpp", '#include "kernels/product.hpp"', None),
    ("include/attune/attention/x.hpp", '#include "kernels/product.hpp"', "no private layer"),
    ("include/attune/attention/x.hpp", "#include <immintrin.h>", "no SIMD header"),
    ("include/attune/base/x.hpp", "  #  include <hwy/highway.h>", "no SIMD header"),
    ("src/kernels/x.cpp", "#include <hwy/highway.h>", None),
    ("src/nn/x.cpp", '#include "attune/attune.hpp"', "umbrella"),
    ("include/attune/attune.hpp", '#include "attune/nn/all.hpp"', None),
    ("src/nn/x.cpp", '#include "lost.hpp"', "path from the root"),
    ("include/attune/magic/x.hpp", "", "a layer is one of"),
]

failed = 0
for name, line, expected in CASES:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.parent.mkdir(parents=True)
        path.write_text(line + "\n", encoding="utf-8")
        found = list(check_layers.findings(Path(folder)))
    good = not found if expected is None else len(found) == 1 and expected in found[0]
    if not good:
        print(f"{name}: {line}: expected {expected or 'no finding'}, got {found}")
        failed += 1
print(f"{len(CASES) - failed} of {len(CASES)} cases as expected")
sys.exit(1 if failed else 0)
