#!/usr/bin/env python3
"""Trains a tiny run that is stopped half way and resumed, and reads its event files back with TensorBoard's own reader:
every number of the log must be there, as float32, once, and nothing else.

Usage: tools/check_tensorboard.py ATTUNE [FOLDER for a virtual environment]

Where this interpreter has no package `tensorboard`, one is installed into FOLDER; if that does not succeed the check says
why and exits with 77, which CTest shows as skipped.
"""
import json
import os
import random
import signal
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

PACKAGE = "tensorboard==2.21.0"
SKIPPED = 77
RECIPE = """
[data]
source = "tsv"
folder = "{folder}"
[tokenizer]
vocab_size = 60
[model]
num_layers = 1
model_dim = 16
num_heads = 2
[train]
steps = 1500
batch_tokens = 64
log_every = 5
checkpoint_every = 100
validate_every = 100
tensorboard = true
[guard]
mode = "full"
limit = 1e-3
"""
# What tag a field of which event has: the names that a user sees.
TAGS = {
    ("step", "loss"): "loss/train",
    ("valid", "loss"): "loss/valid",
    ("step", "learning_rate"): "rate",
    ("step", "schedule"): "rate_factors/schedule",
    ("step", "gradient_norm"): "gradient_norm",
    ("step", "largest_logit"): "attention/largest_logit",
    ("step", "entropy"): "attention/entropy",
    ("step", "tokens"): "tokens",
    ("guard_step", "smallest_factor"): "guard/smallest_factor",
}


def reexecute(folder: Path) -> None:
    """Goes on in a virtual environment with the package."""
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        for command in ([sys.executable, "-m", "venv", "--clear", str(folder)],
                        [str(python), "-m", "pip", "install", "--quiet", "--no-cache-dir", PACKAGE]):
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode != 0:
                reason = (done.stderr or done.stdout).strip().splitlines() or ["no reason given"]
                print(f"check_tensorboard: skipped: {PACKAGE} could not be installed: {reason[-1]}")
                sys.exit(SKIPPED)
        (folder / "complete").touch()
    os.execv(python, [str(python), *sys.argv])


def write_text(folder: Path) -> None:
    words = {"open": "öffne", "the": "die", "file": "Datei", "red": "rote", "table": "Tabelle", "close": "schließe"}
    draw = random.Random(1)
    for name, count in ("train", 200), ("valid", 20), ("test", 20):
        pairs = (draw.choices(list(words), k=draw.randint(3, 7)) for _ in range(count))
        lines = (" ".join(p) + ".\t" + " ".join(words[w] for w in p) + "." for p in pairs)
        (folder / f"{name}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def train(program: str, folder: Path) -> Path:
    """A run that Ctrl-C stopped once."""
    (folder / "text").mkdir()
    write_text(folder / "text")
    (folder / "tiny.toml").write_text(RECIPE.format(folder=folder / "text"), encoding="utf-8")
    first = subprocess.Popen([program, "train", "tiny.toml", "--out", "run"], cwd=folder, stderr=subprocess.PIPE, text=True,
                             stdout=subprocess.DEVNULL)
    seen = ""
    for line in first.stderr:
        seen += line
        if "step " in line:
            first.send_signal(signal.SIGINT)
            break
    seen += first.stderr.read()
    if first.wait() != 130:
        sys.exit(f"check_tensorboard: a run that Ctrl-C stops, exit code 130, got {first.returncode}: {seen}")
    subprocess.run([program, "train", "--resume", "run"], cwd=folder, check=True, capture_output=True)
    return folder / "run"


def as_float32(x) -> float:
    return struct.unpack("f", struct.pack("f", float(x)))[0]


def findings(run: Path):
    from tensorboard.backend.event_processing import event_accumulator

    files = sorted(run.rglob("events.out.tfevents.*"))
    if len(files) != 2:
        yield f"two event files, before and after the stop, got {len(files)}"
        return
    board = event_accumulator.EventAccumulator(str(files[0].parent), size_guidance={event_accumulator.SCALARS: 0})
    board.Reload()
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    for (event, field), tag in TAGS.items():
        logged = [(line["step"], as_float32(line[field])) for line in lines if line["event"] == event and field in line]
        read = [(s.step, s.value) for s in board.Scalars(tag)] if tag in board.Tags()["scalars"] else []
        if not logged:
            yield f"lines of the log with {event}.{field}, got none"
        elif logged != read:
            missing, extra = [p for p in logged if p not in read], [p for p in read if p not in logged]
            yield f"{tag}: the log's {len(logged)} numbers, got {len(read)}; missing {missing[:3]}, more than it {extra[:3]}"


def main() -> int:
    try:
        import tensorboard  # noqa: F401
    except ImportError:
        if len(sys.argv) < 3 or Path(sys.prefix) == Path(sys.argv[2]).resolve():
            print("check_tensorboard: skipped: this Python has no package tensorboard")
            return SKIPPED
        reexecute(Path(sys.argv[2]).resolve())
    with tempfile.TemporaryDirectory() as folder:
        found = list(findings(train(str(Path(sys.argv[1]).resolve()), Path(folder))))
    print("\n".join(found) if found else f"check_tensorboard: {len(TAGS)} tags read back")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
