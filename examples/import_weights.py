"""What is on a picture, by SqueezeNet 1.0 with ImageNet weights made with Caffe.

python examples/import_weights.py photo.jpg                  # MINIDL_DATA/squeezenet has weights and names
python examples/import_weights.py photo.jpg --weights squeezenet.npz --names synset_words.txt

The weights are those of github.com/songhan/SqueezeNet-Deep-Compression, decoded to arrays. Their names and
order of axes are not ours; `dl.weights.load` finds both out.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import numpy as np

import minidl as dl

FOLDER = Path(os.environ.get("MINIDL_DATA", ".")) / "squeezenet"
SIZE = 227  # pixels each way, as in Caffe
MEANS = 104.0, 117.0, 123.0  # of blue, green, red


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("pictures", nargs="+", type=Path, help="PNG or JPEG files")
    parser.add_argument("--weights", type=Path, default=FOLDER / "squeezenet_v1.0_deepcompression.npz")
    parser.add_argument(
        "--names", type=Path, default=FOLDER / "synset_words.txt", help="a class a line, in order"
    )
    return parser.parse_args()


def open_picture(path: Path) -> np.ndarray:
    """The middle square of a picture, (1, 227, 227, 3) in 0..255, RGB."""
    from PIL import Image

    with Image.open(path) as file:
        picture = file.convert("RGB")
        side = min(picture.size)
        left, top = (picture.width - side) // 2, (picture.height - side) // 2
        square = picture.resize((SIZE, SIZE), Image.Resampling.BILINEAR, (left, top, left + side, top + side))
    return np.asarray(square)[None]


def main() -> None:
    arguments = parse_arguments()
    try:
        model = dl.models.squeezenet(
            "1.0", input_shape=(SIZE, SIZE, 3), last_padding=1, weights=arguments.weights
        )
        names = [line.partition(" ")[2] for line in arguments.names.read_text(encoding="utf-8").splitlines()]
        pictures = [open_picture(path) for path in arguments.pictures]
    except (OSError, dl.WeightsError) as error:
        print(f"import_weights: {error}", file=sys.stderr)
        sys.exit(2)
    logits = dl.predict(model, dl.models.caffe_pixels(np.concatenate(pictures), MEANS))
    for path, row in zip(arguments.pictures, dl.ops.softmax(logits).numpy(), strict=True):
        print(path.name)
        for place in np.argsort(-row)[:5]:
            print(f"  {row[place]:6.1%}  {'#' * round(40 * row[place]):<40}  {names[place]}")


if __name__ == "__main__":
    main()
