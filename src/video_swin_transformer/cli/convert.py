"""videoswin convert: weights of any format into ours, the official one or torchvision's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from ..errors import CheckpointError, ConfigError, ImageWeightsError
from .console import say
from .options import StateDictKey

_DTYPES = ("f32", "f16")


EXAMPLES = (
    "videoswin convert checkpoint.pth --to safetensors --out model.safetensors",
    "videoswin convert swin_tiny.pth --to official --allow inflate --out inflated.pth",
)


def convert(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="A weights file, a model folder or a name.")
    ],
    to: Annotated[
        str, typer.Option("--to", metavar="FORMAT", help="safetensors, official or torchvision.")
    ],
    out: Annotated[
        Path, typer.Option(metavar="PATH", help="File to write, such as model.safetensors.")
    ],
    dtype: Annotated[str, typer.Option(metavar="TYPE", help="f32 or f16.")] = "f32",
    architecture: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Architecture name.", show_default="inferred"),
    ] = None,
    num_classes: Annotated[
        int | None,
        typer.Option(min=0, help="Number of classes of a new classifier; needs --allow head."),
    ] = None,
    in_chans: Annotated[
        int | None, typer.Option(min=1, help="Number of input channels; needs --allow in_chans.")
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Allow a mismatch: head, in_chans, window or inflate. Repeatable.",
        ),
    ] = None,
    state_dict_key: StateDictKey = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
) -> int:
    """Convert weights to another format; partial loads are rejected."""
    if dtype not in _DTYPES:
        raise ConfigError(f"--dtype is {dtype!r}, but must be one of {', '.join(_DTYPES)}.")
    if out.is_dir():
        raise ConfigError(f"--out {str(out)!r} is a folder; name the file to write in it.")
    if out.exists() and not force:
        raise ConfigError(f"{str(out)!r} exists; add --force to replace it, or name another file.")
    import torch

    from ..files import check_folder
    from ..weights.checkpoint import load_checkpoint
    from ..weights.writers import check_target, write_checkpoint

    check_target(to)
    check_folder(out.parent)
    try:
        model, report = load_checkpoint(
            file,
            architecture=architecture,
            num_classes=num_classes,
            in_chans=in_chans,
            allow=allow or (),
            state_dict_key=state_dict_key,
        )
    except ImageWeightsError as error:
        raise ImageWeightsError(f"{error} The option is --allow inflate.") from error
    except CheckpointError as error:
        needed = re.findall(r'allow=\{"(\w+)"\}', str(error))
        options = " ".join(f"--allow {name}" for name in needed)
        raise CheckpointError(
            f"{error} The option is {options}." if needed else str(error)
        ) from error
    write_checkpoint(model, out, to, torch.float16 if dtype == "f16" else torch.float32)
    say(str(report))
    print(f"{out}  {to}, {dtype}, {out.stat().st_size / 1e6:.1f} MB")
    return 0
