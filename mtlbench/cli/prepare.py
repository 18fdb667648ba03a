"""`mtlbench prepare`: turns a real dataset into shards."""

import argparse
from pathlib import Path

SUMMARY = "Turn a real dataset's raw files into the harness's own fast format."


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "dataset", metavar="DATASET", help="celeba, cityscapes, nyuv2, office or surreal"
    )
    parser.add_argument("--raw", required=True, metavar="DIR", help="the dataset as published")
    parser.add_argument(
        "--out", metavar="DIR", help="the directory to write (default: prepared/DATASET)"
    )
    parser.add_argument("--workers", type=int, metavar="N", help="processes (default: one a core)")
    parser.add_argument(
        "--frames-every", type=int, metavar="N", help="surreal: every N-th frame of a clip only"
    )
    parser.add_argument(
        "--size", type=int, metavar="N", help="office: height and width of images (default: 224)"
    )


def command(options: argparse.Namespace) -> int:
    from mtlbench.data.prepare import prepare

    report = prepare(
        options.dataset,
        options.raw,
        options.out or Path("prepared") / options.dataset,
        workers=options.workers,
        every=options.frames_every,
        size=options.size,
    )
    print(report)
    return 0
