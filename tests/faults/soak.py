"""An hour of training in two threads with checkpoints: does memory grow, is anything left behind?

python -m tests.faults.soak --minutes 60
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

import minidl as dl
from tests.faults.training import build


def resident() -> float:
    """Memory of this process, MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def work(folder: Path, seed: int, until: float, failures: list[str]) -> None:
    """Train on glyphs again and again until the clock says so."""
    (x, y), test = dl.data.glyphs()
    x, test = x[:1000, 8:20, 8:20], (test[0][:200, 8:20, 8:20], test[1][:200])
    y = y[:1000] % 4
    turn = 0
    try:
        while time.perf_counter() < until:
            model, turn = build(seed + turn), turn + 1
            callbacks = [dl.callbacks.Checkpoint(folder / f"{seed}-{turn}", every=5)]
            arguments = {"epochs": 3, "batch_size": 64, "augment": dl.data.RandomRotation(7), "verbose": 0}
            optimizer = dl.optim.Adam(model)
            dl.fit(
                model,
                x,
                y,
                optimizer=optimizer,
                callbacks=callbacks,
                validation_data=(test[0], test[1] % 4),
                **arguments,
            )
            for path in (folder / f"{seed}-{turn}").iterdir():
                path.unlink()
    except BaseException as error:
        failures.append(repr(error))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60)
    minutes = parser.parse_args().minutes
    failures: list[str] = []
    with tempfile.TemporaryDirectory() as place:
        start = time.perf_counter()
        until = start + 60 * minutes
        threads = [
            threading.Thread(target=work, args=(Path(place), seed, until, failures)) for seed in (1000, 2000)
        ]
        for thread in threads:
            thread.start()
        sizes = []
        while any(thread.is_alive() for thread in threads):
            time.sleep(min(60.0, 60 * minutes / 10))
            sizes.append(resident())
            print(f"{(time.perf_counter() - start) / 60:.1f} min: {sizes[-1]:.1f} MB", flush=True)
        left = [path.name for path in Path(place).rglob("*") if path.is_file()]
    growth = max(sizes[1:], default=0) - sizes[0]
    print(
        f"growth after the first minute: {growth:.1f} MB; files left: {len(left)}; failures: {failures or 'none'}"
    )
    return int(growth > 16 or bool(left) or bool(failures))


if __name__ == "__main__":
    sys.exit(main())
