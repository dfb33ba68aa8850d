"""How much memory calls take, how large the libraries are, and how long a build from nothing takes."""
import json
import os
import subprocess
import time
from pathlib import Path

from bench_serve import PEERS, name_of, start_own, start_peers

COMPILED = ("PyTorch FlexAttention", "PyTorch compiled")  # the first call would count the compiler


def memory_rows(build: str, rows: list, with_peers: bool) -> list:
    """Bytes that one call takes beside its arguments, each in a process of its own: how far resident memory rises.

    Peers make a small call first, so that their libraries' own pages do not count.
    """
    found = []
    for row in rows:
        name = name_of(row)
        own = start_own(build, [row["program"]], 1, name.replace(" ", "+"))[0]
        numbers = {name_of(r): i for i, r in enumerate(own.ask("rows")["rows"])}
        result = {"row": name, "bytes": own.ask(f"memory {numbers[name]}").get("bytes"), "peers": []}
        own.close()
        asked = {key: row[key] for key in ("extents", "pass", "variant", "causal", "dtype")}
        batch, heads, kv_heads, _, _, width = row["extents"]
        attention = [batch, heads, kv_heads, 64, 64, width]
        small = dict(asked, extents=[1, 32, 1, 1, 16, 16] if row["pass"] == "step" else attention)
        for peer in PEERS if with_peers else ():
            ways = []
            number = 0
            while number == 0 or number < len(ways):
                server = start_peers(1, [peer])[0]
                warm, ways = (server.ask("add " + json.dumps(r))["ways"] for r in (small, asked))
                if ways and ways[number][1] not in COMPILED:
                    server.ask(f"time {warm[number][0]} 0")
                    rise = server.ask(f"memory {ways[number][0]}").get("bytes")
                    result["peers"].append({"name": ways[number][1], "bytes": rise})
                server.close()
                number += 1
        found.append(result)
    return found


def print_memory(found: list) -> None:
    for result in found:
        if result["bytes"] is None:
            continue
        peers = "".join(f"   {p['name']} {p['bytes'] / 1e6:.1f} MB" for p in result["peers"] if p["bytes"] is not None)
        print(f"memory beside the arguments: {result['row']:36} {result['bytes'] / 1e6:8.1f} MB{peers}")


def measure_size(build: str) -> dict:
    """Bytes of the stripped libraries; seconds of a build from nothing, compiler cache off."""
    sizes = {}
    for library in sorted(Path(build).glob("libattune*.a")):
        stripped = Path(build) / (library.name + ".stripped")
        subprocess.run(["strip", "--strip-unneeded", "-o", str(stripped), str(library)], check=True)
        sizes[library.name] = stripped.stat().st_size
        stripped.unlink()
        print(f"{library.name}: {sizes[library.name] / 1e6:.2f} MB stripped")
    folder = Path("build/size")
    quiet = {"check": True, "stdout": subprocess.DEVNULL}
    everything = ["cmake", "--build", str(folder), "--parallel", str(os.cpu_count())]
    subprocess.run(["cmake", "--preset", "release", "--fresh", "-B", str(folder)], **quiet)
    subprocess.run(["cmake", "--build", str(folder), "--target", "clean"], **quiet)
    start = time.monotonic()
    subprocess.run(everything, **quiet, env=os.environ | {"CCACHE_DISABLE": "1"})
    sizes["cold_build_seconds"] = time.monotonic() - start
    print(f"everything, built from nothing on {os.cpu_count()} processors: {sizes['cold_build_seconds']:.0f} s")
    return sizes
